"""The update repository's keys on disk, and the roots that name them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from fleetward.base.errors import ConfigError, CorruptDataError, KeyUnavailableError
from fleetward.base.files import write_secret
from fleetward.features.updates.ports import BlobMissingError, BlobStore
from fleetward.features.updates.repository.rendering import ROLES, RepositoryKeys, check_keys
from fleetward.wire.update_paths import root_blob

MAX_ROOT_BYTES = 512_000  # what python-tuf's client takes


@dataclass(frozen=True)
class KeyFiles:
    """Where the keys lie in a data folder."""

    folder: Path

    @property
    def root(self) -> Path:
        """Offline: encrypted, opened by ceremonies alone."""
        return self.folder / "offline" / "tuf-root.key.pem"

    @property
    def firmware(self) -> Path:
        return self.folder / "keys" / "firmware.pem"

    def role(self, role: str) -> Path:
        return self.folder / "keys" / f"tuf-{role}.pem"


def ensure_key(path: Path, *, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Return the key in `path`, made and written owner-only when there is none.

    Raises:
        ConfigError: the passphrase does not open it.
        KeyUnavailableError: unreadable, or no Ed25519 key.
    """
    if not path.exists():
        write_key(path, Ed25519PrivateKey.generate(), passphrase=passphrase)
    return load_key(path, passphrase=passphrase)


def write_key(path: Path, key: Ed25519PrivateKey, *, passphrase: bytes | None = None) -> None:
    """Write a key owner-only, encrypted when there is a passphrase."""
    how: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        how = BestAvailableEncryption(passphrase)
    write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))


def load_key(path: Path, *, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Return the key in `path`. Raises as `ensure_key`."""
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)
    except OSError as error:
        raise KeyUnavailableError(
            f"{path}: expected a private key, found it unreadable", hint="Restore it from a backup."
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise ConfigError(f"{path}: expected a key this passphrase opens, found another") from error
        raise KeyUnavailableError(
            f"{path}: expected a private key in PEM, found something else", hint="Restore it from a backup."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnavailableError(f"{path}: expected an Ed25519 key, found another kind")
    return key


def load_repository_keys(files: KeyFiles, root: Metadata[Root]) -> RepositoryKeys:
    """Return the online keys, once `root` is seen to name them.

    Raises:
        KeyUnavailableError: missing, or not those of the root.
    """
    signers: Mapping[str, CryptoSigner] = {role: CryptoSigner(load_key(files.role(role))) for role in ROLES}
    check_keys(root.signed, signers)
    return RepositoryKeys(signers, root.signed.version)


def find_latest_root(blobs: BlobStore) -> Metadata[Root] | None:
    """Return the newest root of the repository, None before the ceremony.

    Raises:
        CorruptDataError: a stored root does not parse.
    """
    latest: Metadata[Root] | None = None
    version = 1
    while True:
        try:
            content = blobs.get(root_blob(version), max_bytes=MAX_ROOT_BYTES)
        except BlobMissingError:
            return latest
        latest = parse_root(content)
        version += 1


def parse_root(content: bytes) -> Metadata[Root]:
    """Return root metadata of ours. Raises CorruptDataError."""
    try:
        found: Metadata[Any] = Metadata[Root].from_bytes(content)
    except RepositoryError as error:
        raise CorruptDataError(
            "TUF root: expected root metadata, found something else",
            hint="Restore the folder or bucket of the blobs from a backup.",
        ) from error
    if not isinstance(found.signed, Root):
        raise CorruptDataError(f"TUF root: expected the root role, found {found.signed.type}")
    return found
