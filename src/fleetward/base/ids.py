"""Names and random identifiers.

A device id becomes an MQTT topic level, a NATS subject token, a URL path segment and a certificate SAN:
it holds only what is literal in all four.
"""

import re
import secrets
from datetime import timedelta

from fleetward.base.errors import InvalidInputError

MAX_ID_CHARS = 64
_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
_TRUST_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)")
# They stand where a device's id may: /devices/counts.
_API_WORDS = frozenset({"bulk", "counts", "import"})
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_id(text: str, *, what: str) -> str:
    """Return `text` when it is a valid id of a device, model or group.

    Raises:
        InvalidInputError: empty, over 64 characters, or with a character outside `A-Z a-z 0-9 _ -`.
    """
    if len(text) > MAX_ID_CHARS:
        raise InvalidInputError(f"{what} id: expected at most {MAX_ID_CHARS} characters, found {len(text)}")
    if not _ID.fullmatch(text):
        raise InvalidInputError(
            f"{what} id: expected letters, digits, '-' and '_', starting and ending with a letter or digit, "
            f"found {text!r}"
        )
    return text


def parse_device_id(text: str) -> str:
    """Return a valid device id. Raises InvalidInputError as `parse_id` does, and for an API's word."""
    if text in _API_WORDS:
        raise InvalidInputError(f"device id: expected a name of its own, found {text!r}, a word of the API")
    return parse_id(text, what="device")


def parse_trust_domain(text: str) -> str:
    """Return a valid SPIFFE trust domain name (SPIFFE-ID section 2.1).

    Raises:
        InvalidInputError: not lower-case letters, digits, dots and dashes.
    """
    if not _TRUST_DOMAIN.fullmatch(text):
        raise InvalidInputError(
            f"trust domain: expected lower-case letters, digits, dots and dashes, found {text[:80]!r}"
        )
    return text


def parse_duration(text: str, *, what: str) -> timedelta:
    """Return the duration of texts such as `90s`, `15m`, `24h`, `7d`; always positive.

    Raises:
        InvalidInputError: another form, or zero.
    """
    match = _DURATION.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise InvalidInputError(
            f"{what}: expected a duration such as 90s, 15m, 24h or 7d, found {text[:40]!r}"
        )
    return timedelta(seconds=int(match[1]) * _UNIT_S[match[2]])


def render_duration(value: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads back."""
    seconds = int(value.total_seconds())
    for unit in ("d", "h", "m"):
        if seconds % _UNIT_S[unit] == 0:
            return f"{seconds // _UNIT_S[unit]}{unit}"
    return f"{seconds}s"


def new_token(*, bits: int = 192) -> str:
    """Return a random URL-safe secret of at least `bits` bits."""
    return secrets.token_urlsafe((bits + 7) // 8)


def new_id(prefix: str) -> str:
    """Return a random public identifier such as `chal_Jx1…`, 96 bits."""
    return f"{prefix}_{secrets.token_hex(12)}"
