"""Ceremonies of the update repository: what needs the offline root key, and so a person with the passphrase.

The root is signed when the platform is made, and again before it expires or when an online key must go. Every
step may be interrupted and run again.
"""

from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from fleetward.base.errors import ConflictError
from fleetward.base.files import write_atomically
from fleetward.features.updates.ports import BlobStore
from fleetward.features.updates.repository.keys import (
    KeyFiles,
    ensure_key,
    find_latest_root,
    load_key,
    write_key,
)
from fleetward.features.updates.repository.rendering import ROLES, sign
from fleetward.wire.manifest import render_pinned_keys
from fleetward.wire.update_paths import root_blob

ROOT_LIFETIME = timedelta(days=2 * 365)


def create_update_repository(folder: Path, blobs: BlobStore, *, passphrase: bytes, now: datetime) -> None:
    """Make the repository's keys and first root, or finish making them; what exists is never overwritten.

    Writes `offline/tuf-root.key.pem` (encrypted), `keys/tuf-*.pem`, `keys/firmware.pem`, and what devices pin
    at provisioning: `ca/tuf-root.json` and `ca/firmware-keys.json`.

    Raises:
        ConfigError: the passphrase does not open the root key that is there.
    """
    files = KeyFiles(folder)
    for path in (files.root, files.firmware, folder / "ca" / "tuf-root.json"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    firmware = ensure_key(files.firmware)
    signers = {role: CryptoSigner(ensure_key(files.role(role))) for role in ROLES}
    if find_latest_root(blobs) is None:
        root_signer = CryptoSigner(ensure_key(files.root, passphrase=passphrase))
        root = Root(1, expires=(now + ROOT_LIFETIME).replace(microsecond=0), consistent_snapshot=True)
        root.add_key(root_signer.public_key, Root.type)
        for role, signer in signers.items():
            root.add_key(signer.public_key, role)
        blobs.put(root_blob(1), sign(root, root_signer))
    _write_pinned(folder, blobs, firmware)


def sign_next_root(
    folder: Path,
    blobs: BlobStore,
    *,
    passphrase: bytes,
    now: datetime,
    replace: frozenset[str] = frozenset(),
) -> int:
    """Sign the next root, with new keys for the roles in `replace`, and return its version.

    Devices follow from the root they pinned, one version at a time. Replacing the keys of timestamp and
    snapshot also frees devices that a thief of the old keys sent far ahead (TUF section 5.3.11). Restart the
    platform afterwards: it signs everything anew at its start.

    Raises:
        ConfigError: the passphrase does not open the root key.
        ConflictError: there is no repository yet.
    """
    files = KeyFiles(folder)
    latest = find_latest_root(blobs)
    if latest is None:
        raise ConflictError(
            "update repository: expected one to exist, found none", hint="Run fleetward init."
        )
    root_signer = CryptoSigner(load_key(files.root, passphrase=passphrase))
    fresh = {role: ensure_key(_next_key(files, role)) for role in ROLES if role in replace}
    if not _names(latest.signed, fresh):
        latest = _next_root(latest.signed, fresh, now)
        blobs.put(root_blob(latest.signed.version), sign(latest.signed, root_signer))
    for role, key in fresh.items():
        write_key(files.role(role), key)
        _next_key(files, role).unlink()
    return latest.signed.version


def _next_root(root: Root, fresh: dict[str, Ed25519PrivateKey], now: datetime) -> Metadata[Root]:
    root.version += 1
    root.expires = (now + ROOT_LIFETIME).replace(microsecond=0)
    for role, key in fresh.items():
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        root.add_key(CryptoSigner(key).public_key, role)
    return Metadata(root)


def _names(root: Root, fresh: dict[str, Ed25519PrivateKey]) -> bool:
    """Tell whether an interrupted ceremony already signed a root with these new keys."""
    return bool(fresh) and all(
        CryptoSigner(key).public_key.keyid in root.roles[role].keyids for role, key in fresh.items()
    )


def _next_key(files: KeyFiles, role: str) -> Path:
    return files.role(role).with_suffix(".pem.next")


def _write_pinned(folder: Path, blobs: BlobStore, firmware: Ed25519PrivateKey) -> None:
    root, keys = folder / "ca" / "tuf-root.json", folder / "ca" / "firmware-keys.json"
    if not root.exists():
        write_atomically(root, blobs.get(root_blob(1), max_bytes=512_000))
    if not keys.exists():
        write_atomically(keys, render_pinned_keys([firmware.public_key()]))
