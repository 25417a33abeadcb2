"""Keys in a secure element or HSM, through any PKCS#11 module."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from fleetward.base.errors import ConflictError, KeyUnavailableError, MissingProgramError
from fleetward.base.ids import parse_id
from fleetward.features.devices.model import KeyTier
from fleetward.outside.keys import offload
from fleetward.outside.keys.signing import sign_csr

_HALF = 32


@dataclass(frozen=True)
class Pkcs11Key:
    """A key in a token; implements `KeyHandle`. Each use opens the object anew: sessions come and go."""

    label: str
    public_key: ec.EllipticCurvePublicKey
    store: "Pkcs11KeyStore" = field(repr=False)

    def sign_digest(self, digest: bytes) -> bytes:
        return self.store.sign(self.label, digest)

    def sign_csr(self, device_id: str) -> bytes:
        return sign_csr(device_id, self.public_key, self.sign_digest)

    def bind(self, context: ssl.SSLContext, chain: Path) -> None:
        offload.install(context, chain, self.sign_digest)


class Pkcs11KeyStore:
    """Keys in one token; implements `DeviceKeyStore`. Private keys are sensitive and never extractable."""

    tier = KeyTier.PKCS11

    def __init__(self, module: Path, token: str, pin: str) -> None:
        """Open the token labelled `token`.

        Raises:
            MissingProgramError: python-pkcs11 or the module is not installed.
            KeyUnavailableError: no such token, or the PIN is wrong.
        """
        try:
            import pkcs11  # noqa: PLC0415 - an extra that software-tier devices need not have
            from pkcs11.util import ec as ec_util  # noqa: PLC0415
        except ImportError as error:
            raise MissingProgramError(
                "PKCS#11: expected the library python-pkcs11, found it missing",
                hint="Install it: pip install 'fleetward[pkcs11]'",
            ) from error
        if not module.is_file():
            raise MissingProgramError(f"PKCS#11: expected a module at {module}, found none")
        self._pkcs11, self._ec = pkcs11, ec_util
        self._module, self._token_label, self._pin = module, token, pin
        self._lock = threading.RLock()
        self._session: Any = None
        with self._use():
            pass

    def create_key(self, label: str) -> Pkcs11Key:
        if self.find_key(label) is not None:
            raise ConflictError(f"key {label}: expected a new label, found it taken")
        attribute, kind = self._pkcs11.Attribute, self._pkcs11.KeyType.EC
        with self._use() as session:
            curve = {attribute.EC_PARAMS: self._ec.encode_named_curve_parameters("secp256r1")}
            secret = {attribute.SENSITIVE: True, attribute.EXTRACTABLE: False, attribute.SIGN: True}
            parameters = session.create_domain_parameters(kind, curve, local=True)
            parameters.generate_keypair(
                store=True, label=label, id=label.encode(),
                private_template=secret,
            )  # fmt: skip
        return self.open_key(label)

    def open_key(self, label: str) -> Pkcs11Key:
        found = self.find_key(label)
        if found is None:
            raise KeyUnavailableError(f"key {label}: expected it in token {self._token_label}, found none")
        return found

    def find_key(self, label: str) -> Pkcs11Key | None:
        parse_id(label, what="key")
        with self._use() as session:
            public = self._find(session, self._pkcs11.ObjectClass.PUBLIC_KEY, label)
            private = self._find(session, self._pkcs11.ObjectClass.PRIVATE_KEY, label)
            if public is None or private is None:
                return None
            key = load_der_public_key(self._ec.encode_ec_public_key(public))
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise KeyUnavailableError(f"key {label}: expected a P-256 key in the token, found another kind")
        return Pkcs11Key(label, key, self)

    def find_certificate(self, label: str) -> bytes | None:
        """Return the certificate object `label`, DER, e.g. the maker's IDevID; None when there is none."""
        with self._use() as session:
            found = self._find(session, self._pkcs11.ObjectClass.CERTIFICATE, label)
            return None if found is None else bytes(found[self._pkcs11.Attribute.VALUE])

    def delete_key(self, label: str) -> None:
        parse_id(label, what="key")
        with self._use() as session:
            for kind in (self._pkcs11.ObjectClass.PRIVATE_KEY, self._pkcs11.ObjectClass.PUBLIC_KEY):
                while (found := self._find(session, kind, label)) is not None:
                    found.destroy()

    def list_labels(self) -> list[str]:
        with self._use() as session:
            query = {self._pkcs11.Attribute.CLASS: self._pkcs11.ObjectClass.PRIVATE_KEY}
            return sorted(key.label for key in session.get_objects(query))

    def sign(self, label: str, digest: bytes) -> bytes:
        """Return the DER ECDSA signature over 32 bytes. Raises KeyUnavailableError."""
        with self._use() as session:
            key = self._find(session, self._pkcs11.ObjectClass.PRIVATE_KEY, label)
            if key is None:
                raise KeyUnavailableError(
                    f"key {label}: expected it in token {self._token_label}, found none"
                )
            raw = bytes(key.sign(digest, mechanism=self._pkcs11.Mechanism.ECDSA))
        if len(raw) != 2 * _HALF:
            raise KeyUnavailableError(
                f"key {label}: expected a signature of {2 * _HALF} bytes, found {len(raw)}"
            )
        return encode_dss_signature(int.from_bytes(raw[:_HALF], "big"), int.from_bytes(raw[_HALF:], "big"))

    def _find(self, session: Any, kind: Any, label: str) -> Any | None:
        attribute = self._pkcs11.Attribute
        return next(iter(session.get_objects({attribute.CLASS: kind, attribute.LABEL: label})), None)

    @contextmanager
    def _use(self) -> Iterator[Any]:
        """Yield the session, opened when there is none; one thread at a time. A failed session is dropped."""
        with self._lock:
            try:
                if self._session is None:
                    self._session = self._log_in()
                yield self._session
            except self._pkcs11.PKCS11Error as error:
                self._session = None
                raise KeyUnavailableError(
                    f"token {self._token_label}: expected it to answer, found {type(error).__name__}",
                    hint="Check module, token label and PIN in the agent's settings.",
                ) from error

    def _log_in(self) -> Any:
        token = self._pkcs11.lib(str(self._module)).get_token(token_label=self._token_label)
        try:
            return token.open(rw=True, user_pin=self._pin)
        except self._pkcs11.exceptions.UserAlreadyLoggedIn:  # a login holds for the whole process
            return token.open(rw=True)
