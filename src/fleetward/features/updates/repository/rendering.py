"""TUF metadata of one model, made from its releases (TUF specification 1.0; python-tuf's classes).

Roles: `root` is offline and shared by all models; `targets`, `snapshot` and `timestamp` are signed here.
Metadata is a function of the release rows, so a lost or damaged file is made again, under a new version.
Targets carry the model in their name: metadata of one model offers nothing to devices of another.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from fleetward.base.errors import KeyUnavailableError
from fleetward.features.updates.model import (
    LIFETIMES,
    Artifact,
    Release,
    ReleaseState,
    RepositoryState,
    find_current,
)
from fleetward.wire import update_paths as paths

ROLES = tuple(LIFETIMES)
MAX_METADATA_BYTES = 5_000_000  # python-tuf's client takes no more of targets


@dataclass(frozen=True)
class RepositoryKeys:
    """The online keys, by role, and the version of the root that says they are right."""

    signers: Mapping[str, CryptoSigner]
    root: int


def check_keys(root: Root, signers: Mapping[str, CryptoSigner]) -> None:
    """Pass when `root` names each signer's key for its role.

    Raises:
        KeyUnavailableError: it names another.
    """
    for role in ROLES:
        if signers[role].public_key.keyid not in root.roles[role].keyids:
            raise KeyUnavailableError(
                f"TUF {role} key: expected one that root version {root.version} names, found another",
                hint="Restore the keys folder that belongs to this update repository.",
            )


def measure(content: bytes) -> Artifact:
    """Return the digests and length of what is in memory."""
    return measure_chunks((content,))


def measure_chunks(chunks: Iterable[bytes]) -> Artifact:
    """Return the digests and length of what comes in pieces. Raises what getting them does."""
    sha256, sha512, length = hashlib.sha256(), hashlib.sha512(), 0
    for chunk in chunks:
        length += len(chunk)
        sha256.update(chunk)
        sha512.update(chunk)
    return Artifact(sha256.hexdigest(), sha512.hexdigest(), length)


def render_metadata(
    keys: RepositoryKeys,
    state: RepositoryState,
    releases: Iterable[Release],
    *,
    roles: tuple[str, ...],
    version: int,
    now: datetime,
) -> tuple[dict[str, bytes], RepositoryState]:
    """Return the files to store, by blob name and in the order to store them, and the state they make.

    Args:
        roles: what to sign anew; targets brings snapshot with it, and snapshot timestamp.
        version: a reserved number, over all before it.
    """
    known = {role: state.roles[role] for role in ROLES if role in state.roles}
    known |= {role: (version, now + LIFETIMES[role]) for role in roles}
    expires = {role: known[role][1].replace(microsecond=0) for role in roles}
    made: dict[str, Targets | Snapshot | Timestamp] = {}
    if "targets" in roles:
        made["targets"] = Targets(
            version, expires=expires["targets"], targets=_targets_of(state.model, releases)
        )
    if "snapshot" in roles:
        meta = {"targets.json": MetaFile(known["targets"][0])}
        made["snapshot"] = Snapshot(version, expires=expires["snapshot"], meta=meta)
    if "timestamp" in roles:
        snapshot = MetaFile(known["snapshot"][0])
        made["timestamp"] = Timestamp(version, expires=expires["timestamp"], snapshot_meta=snapshot)
    files = {
        paths.metadata_blob(state.model, _file_name(role, version)): sign(signed, keys.signers[role])
        for role, signed in made.items()
    }
    after = {role: (known[role][0], expires.get(role, known[role][1])) for role in ROLES}
    return files, RepositoryState(state.model, version, after, keys.root)


def sign(signed: Root | Targets | Snapshot | Timestamp, *signers: CryptoSigner) -> bytes:
    """Return the file of one piece of metadata."""
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer(compact=True))


def _targets_of(model: str, releases: Iterable[Release]) -> dict[str, TargetFile]:
    published = [one for one in releases if one.state is ReleaseState.PUBLISHED]
    found: dict[str, Artifact] = {}
    for release in published:
        found[paths.image(model, release.version)] = release.image
        found[paths.sbom(model, release.version)] = release.sbom
        found[paths.manifest(model, release.version)] = measure(release.manifest)
    current = find_current(published)
    if current is not None:
        found[paths.current_manifest(model, paths.DEFAULT_CHANNEL)] = measure(current.manifest)
    return {
        name: TargetFile(one.length, {"sha256": one.sha256, "sha512": one.sha512}, name)
        for name, one in found.items()
    }


def _file_name(role: str, version: int) -> str:
    return "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
