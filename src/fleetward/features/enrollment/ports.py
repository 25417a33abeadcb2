"""Where a device's keys live, as enrollment sees it. Implemented in `outside/keys`."""

import ssl
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from fleetward.features.devices.model import KeyTier


class KeyHandle(Protocol):
    """One P-256 key. Operations raise KeyUnavailableError when chip or file cannot be reached."""

    @property
    def label(self) -> str: ...

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey: ...

    def sign_digest(self, digest: bytes) -> bytes:
        """Return the DER ECDSA signature over a 32-byte digest."""
        ...

    def sign_csr(self, device_id: str) -> bytes:
        """Return a PKCS#10 request, DER, with the device's id as common name."""
        ...

    def bind(self, context: ssl.SSLContext, chain: Path) -> None:
        """Make `context` authenticate with this key and the PEM certificate chain, leaf first."""
        ...


class DeviceKeyStore(Protocol):
    """Keys by label: letters, digits, '-' and '_'. Several live side by side while one replaces another."""

    @property
    def tier(self) -> KeyTier: ...

    def create_key(self, label: str) -> KeyHandle:
        """Make a key that never leaves the store. Raises ConflictError when the label is taken."""
        ...

    def open_key(self, label: str) -> KeyHandle:
        """Return a key. Raises KeyUnavailableError when there is none or it cannot be reached."""
        ...

    def find_key(self, label: str) -> KeyHandle | None:
        """Return a key, None when there is none. Raises KeyUnavailableError."""
        ...

    def delete_key(self, label: str) -> None:
        """Delete a key; deleting it again changes nothing."""
        ...

    def list_labels(self) -> list[str]:
        """Return the labels in use, sorted."""
        ...
