"""What is measured into the TPM before anything starts.

PCR 8 takes the boot stage and the pinned keys, PCR 9 the firmware. When nothing may start, PCR 9 takes a mark
instead: a device that runs without firmware can then never pretend to have started some.
"""

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable

from fleetward.features.updates.boot.selection import Verified
from fleetward.wire.event_log import LogEntry, Measured, make_entry
from fleetward.wire.manifest import digest_manifest

_NOTHING = hashlib.sha256(b"fleetward: no firmware was started").digest()
# All code that runs before the firmware does and decides whether it may.
_STAGE = (
    "base/files.py",
    "features/updates/boot",
    "outside/slots",
    "programs/agent/boot.py",
    "programs/agent/supervise.py",
    "wire/event_log.py",
    "wire/manifest.py",
)


def measure_start(
    boot_stage: bytes, pinned: bytes, chosen: Verified | None, *, version: str
) -> tuple[LogEntry, ...]:
    """Return what to extend, in order, before `chosen` starts.

    Args:
        boot_stage: as `digest_boot_stage` returns it.
        pinned: content of the pinned keys file.
        chosen: None when no firmware may start.
        version: of the boot stage, for people.
    """
    found = [
        (Measured.BOOT_STAGE, boot_stage, "fleetward", version),
        (Measured.PINNED_KEYS, hashlib.sha256(pinned).digest(), "", ""),
    ]
    if chosen is None:
        found.append((Measured.NO_FIRMWARE, _NOTHING, "", ""))
    else:
        manifest = chosen.manifest
        name, image = manifest.model, bytes.fromhex(manifest.sha256)
        found.append((Measured.IMAGE, image, name, manifest.version))
        found.append((Measured.MANIFEST, digest_manifest(chosen.envelope), name, manifest.version))
    return tuple(
        make_entry(index, kind, digest, name=name, version=version)
        for index, (kind, digest, name, version) in enumerate(found)
    )


def digest_boot_stage() -> bytes:
    """Return the SHA-256 of this release's boot stage, the same on every machine it is installed on."""
    digest = hashlib.sha256()
    root = files("fleetward")
    for name in _STAGE:
        for path, source in _sources(root / name, name):
            content = source.read_bytes()
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.digest()


def _sources(found: Traversable, name: str) -> list[tuple[str, Traversable]]:
    if found.is_file():
        return [(name, found)]
    modules = [(f"{name}/{one.name}", one) for one in found.iterdir() if one.name.endswith(".py")]
    return sorted(modules, key=lambda pair: pair[0])
