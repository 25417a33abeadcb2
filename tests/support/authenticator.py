"""A software authenticator: makes passkeys and answers challenges as a browser does (WebAuthn level 3).

Its bytes are real: CBOR attestation objects, authenticator data, ECDSA signatures.
"""

import hashlib
import json
import os
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

_USER_PRESENT, _USER_VERIFIED, _HAS_CREDENTIAL = 0x01, 0x04, 0x40
_AAGUID = bytes(16)


def b64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def from_b64url(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Passkey:
    """One credential inside the authenticator."""

    id: bytes
    key: ec.EllipticCurvePrivateKey
    rp_id: str
    user_handle: bytes
    count: int = 0


@dataclass
class SoftAuthenticator:
    """Plays browser and authenticator at one origin. `is_verifying` False: it skips PIN or fingerprint."""

    origin: str = "https://localhost"
    is_verifying: bool = True
    counts: bool = True
    passkeys: list[Passkey] = field(default_factory=list)

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return what `navigator.credentials.create` gives for PublicKeyCredentialCreationOptionsJSON."""
        handle = from_b64url(options["user"]["id"])
        passkey = Passkey(
            os.urandom(32), ec.generate_private_key(ec.SECP256R1()), options["rp"]["id"], handle
        )
        self.passkeys.append(passkey)
        numbers = passkey.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        credential = _AAGUID + struct.pack(">H", len(passkey.id)) + passkey.id + cbor2.dumps(cose)
        authenticator_data = self._data(passkey, _HAS_CREDENTIAL) + credential
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": authenticator_data})
        client_data = self._client_data("webauthn.create", options["challenge"])
        response = {"clientDataJSON": b64url(client_data), "attestationObject": b64url(attestation)}
        return self._credential(passkey, response)

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return what `navigator.credentials.get` gives for PublicKeyCredentialRequestOptionsJSON."""
        allowed = {from_b64url(one["id"]) for one in options.get("allowCredentials", [])}
        passkey = next(
            one
            for one in reversed(self.passkeys)
            if one.rp_id == options["rpId"] and (not allowed or one.id in allowed)
        )
        passkey.count += 1 if self.counts else 0
        data = self._data(passkey, 0)
        client_data = self._client_data("webauthn.get", options["challenge"])
        signature = passkey.key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": b64url(client_data),
            "authenticatorData": b64url(data),
            "signature": b64url(signature),
            "userHandle": b64url(passkey.user_handle),
        }
        return self._credential(passkey, response)

    def _data(self, passkey: Passkey, flags: int) -> bytes:
        flags |= _USER_PRESENT | (_USER_VERIFIED if self.is_verifying else 0)
        return hashlib.sha256(passkey.rp_id.encode()).digest() + struct.pack(">BI", flags, passkey.count)

    def _client_data(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin}).encode()

    def _credential(self, passkey: Passkey, response: dict[str, str]) -> dict[str, Any]:
        name = b64url(passkey.id)
        return {
            "id": name,
            "rawId": name,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }
