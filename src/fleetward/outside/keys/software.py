"""Keys in files, owner-only: the weakest tier, and labelled so."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fleetward.base.errors import ConflictError, KeyUnavailableError
from fleetward.base.files import sync_folder, write_secret
from fleetward.base.ids import parse_id
from fleetward.features.devices.model import KeyTier
from fleetward.outside.keys.signing import sign_csr

_SUFFIX = ".key.pem"


@dataclass(frozen=True)
class SoftwareKey:
    """A key in a PEM file; implements `KeyHandle`."""

    label: str
    path: Path
    private_key: ec.EllipticCurvePrivateKey

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.private_key.public_key()

    def sign_digest(self, digest: bytes) -> bytes:
        return self.private_key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))

    def sign_csr(self, device_id: str) -> bytes:
        return sign_csr(device_id, self.public_key, self.sign_digest)

    def bind(self, context: ssl.SSLContext, chain: Path) -> None:
        try:
            context.load_cert_chain(chain, self.path)
        except (OSError, ssl.SSLError) as error:
            raise KeyUnavailableError(
                f"{chain}: expected the certificate of key {self.label}, found it not"
            ) from error


class SoftwareKeyStore:
    """Keys in a folder; implements `DeviceKeyStore`."""

    tier = KeyTier.SOFTWARE

    def __init__(self, folder: Path) -> None:
        """Use `folder`, made when it is missing. Raises KeyUnavailableError when it cannot be."""
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise KeyUnavailableError(
                f"{folder}: expected a folder for keys, found it cannot be made"
            ) from error

    def create_key(self, label: str) -> SoftwareKey:
        path = self._path(label)
        if path.exists():
            raise ConflictError(f"key {label}: expected a new label, found it taken")
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        except OSError as error:
            raise KeyUnavailableError(f"{path}: expected to write a key, found: {error.strerror}") from error
        return SoftwareKey(label, path, key)

    def open_key(self, label: str) -> SoftwareKey:
        found = self.find_key(label)
        if found is None:
            raise KeyUnavailableError(f"key {label}: expected it in {self._folder}, found none")
        return found

    def find_key(self, label: str) -> SoftwareKey | None:
        path = self._path(label)
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise KeyUnavailableError(f"{path}: expected a private key, found it unreadable") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise KeyUnavailableError(f"{path}: expected a P-256 key, found another kind")
        return SoftwareKey(label, path, key)

    def delete_key(self, label: str) -> None:
        self._path(label).unlink(missing_ok=True)
        sync_folder(self._folder)

    def list_labels(self) -> list[str]:
        return sorted(path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"*{_SUFFIX}"))

    def _path(self, label: str) -> Path:
        return self._folder / f"{parse_id(label, what='key')}{_SUFFIX}"
