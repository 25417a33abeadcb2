"""Seals what must be read again: TOTP secrets at rest, and the state of ceremonies that strangers carry.

AES-256-GCM under the key `keys/access.key`. The purpose is authenticated with it, so that what was sealed
for one use opens for no other.
"""

import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleetward.base.errors import InvalidInputError

KEY_BYTES = 32
_NONCE_BYTES = 12
_MAX_TICKET_CHARS = 4096


class Sealer:
    """Seals and opens under one key, which it shows to nobody."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, content: bytes, purpose: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Return what was sealed for `purpose`. Raises InvalidInputError for anything else."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise InvalidInputError(f"{purpose}: expected what we sealed, found something else") from error

    def seal_ticket(self, values: dict[str, Any], purpose: str, expires_at: datetime) -> str:
        """Return text that brings `values` back until `expires_at`: the server need keep no state."""
        content = json.dumps({**values, "exp": expires_at.timestamp()}).encode()
        return urlsafe_b64encode(self.seal(content, purpose)).decode()

    def open_ticket(self, ticket: str, purpose: str, now: datetime) -> dict[str, Any]:
        """Return the values of a ticket. Raises InvalidInputError: not ours, of another purpose, expired."""
        if len(ticket) > _MAX_TICKET_CHARS:
            raise InvalidInputError(f"{purpose}: expected at most {_MAX_TICKET_CHARS} characters, found more")
        try:
            sealed = urlsafe_b64decode(ticket.encode("ascii"))
        except ValueError as error:
            raise InvalidInputError(f"{purpose}: expected base64url, found something else") from error
        values: dict[str, Any] = json.loads(self.open(sealed, purpose))
        if now.timestamp() >= values["exp"]:
            raise InvalidInputError(f"{purpose}: expected it fresh, found it expired", hint="Start again.")
        return values
