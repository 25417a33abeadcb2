"""Random secrets we hand out: shown once, kept as SHA-256.

A plain hash is enough because each holds at least 80 random bits: nothing to guess, so nothing to slow down.
Passwords are the exception; see `passwords`.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode

API_TOKEN_PREFIX = "fwt_"  # noqa: S105 - the public start of a token, so that scanners find leaked ones
CLI_TOKEN_PREFIX = "fwc_"  # noqa: S105 - as above
# Crockford's letters without those people confuse: no I, L, O, U.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_GROUPS, _CODE_GROUP_CHARS = 4, 4


def new_secret(prefix: str = "") -> str:
    """Return a secret of 256 random bits after `prefix`."""
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def csrf_token(session_secret: str) -> str:
    """Return the session's CSRF token: bound to the cookie, and telling nothing of it."""
    digest = hmac.digest(session_secret.encode(), b"fleetward csrf", "sha256")
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_same(one: str, other: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def new_recovery_code() -> str:
    """Return a code of 80 random bits to be written on paper, such as `7KQ2-9XMD-PT4W-C0ZR`."""
    return "-".join(_letters(_CODE_GROUP_CHARS) for _ in range(_CODE_GROUPS))


def parse_recovery_code(text: str) -> str:
    """Return the one spelling of a recovery code as people type it; what is no code stays wrong."""
    plain = "".join(text.upper().split()).replace("-", "")
    plain = plain.translate(str.maketrans("OIL", "011"))
    return "-".join(plain[at : at + _CODE_GROUP_CHARS] for at in range(0, len(plain), _CODE_GROUP_CHARS))


def _letters(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))
