"""What is measured into the TPM before anything starts, and what a release's measurements will be.

PCR 8 takes the boot stage and the pinned keys, PCR 9 the firmware. When nothing may start, PCR 9 takes a mark
instead: a device that runs without firmware can then never pretend to have started some.
"""

import hashlib
from dataclasses import dataclass

from fleetward.features.updates.boot.selection import Verified
from fleetward.wire.manifest import digest_manifest

PLATFORM_PCR = 8
FIRMWARE_PCR = 9
_NOTHING = hashlib.sha256(b"fleetward: no firmware was started").digest()


@dataclass(frozen=True)
class Measurement:
    """One extension of a PCR, as the event log tells it."""

    pcr: int
    digest: bytes
    kind: str
    name: str
    version: str


def measure_platform(boot_stage: bytes, pinned: bytes, version: str) -> list[Measurement]:
    """Return what goes into PCR 8: digests of the boot stage's code and of the pinned keys file."""
    return [
        Measurement(PLATFORM_PCR, boot_stage, "boot_stage", "fleetward", version),
        Measurement(PLATFORM_PCR, hashlib.sha256(pinned).digest(), "pinned_keys", "firmware-keys", ""),
    ]


def measure_firmware(chosen: Verified | None) -> list[Measurement]:
    """Return what goes into PCR 9."""
    if chosen is None:
        return [Measurement(FIRMWARE_PCR, _NOTHING, "no_firmware", "", "")]
    manifest = chosen.manifest
    return firmware_measurements(
        manifest.model, manifest.version, bytes.fromhex(manifest.sha256), digest_manifest(chosen.envelope)
    )


def firmware_measurements(model: str, version: str, image: bytes, manifest: bytes) -> list[Measurement]:
    """Return what a device that starts this release measures: digests of its image and of its manifest."""
    return [
        Measurement(FIRMWARE_PCR, image, "firmware_image", model, version),
        Measurement(FIRMWARE_PCR, manifest, "firmware_manifest", model, version),
    ]


def replay(measurements: list[Measurement]) -> dict[int, bytes]:
    """Return the PCR values that these extensions, in order, lead to from zero."""
    values: dict[int, bytes] = {}
    for one in measurements:
        before = values.get(one.pcr, bytes(hashlib.sha256().digest_size))
        values[one.pcr] = hashlib.sha256(before + one.digest).digest()
    return values
