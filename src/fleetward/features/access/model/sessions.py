"""Sessions of browsers, and where a sign-in may lead."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

COOKIE = "__Host-fleetward"
CSRF_HEADER = "x-fleetward-csrf"
# A session is noted as seen at most this often: reading a page should not cost a write.
SEEN_EVERY = timedelta(minutes=1)
RESTRICTED_LIFETIME = timedelta(minutes=15)
_MAX_NEXT_CHARS = 500

Method = Literal["passkey", "password", "recovery", "oidc"]


@dataclass(frozen=True)
class Session:
    """One browser signed in.

    Attributes:
        mfa_at: when two factors were last given; None in a session that has not seen both.
        restricted: opened by one factor alone (a recovery code, a provider): may only renew or give factors.
    """

    id: str
    operator: str
    method: Method
    restricted: bool
    mfa_at: datetime | None
    address: str
    user_agent: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ended_at: datetime | None

    def is_live(self, now: datetime, idle: timedelta) -> bool:
        return self.ended_at is None and now < self.expires_at and now < self.last_seen_at + idle


def safe_next(path: str | None) -> str:
    """Return `path` when it can only lead to a page of ours, else `/`.

    Browsers read `//host`, and the same with backslashes, as another host, and drop tabs inside a URL.
    """
    if not path or len(path) > _MAX_NEXT_CHARS or not path.startswith("/"):
        return "/"
    is_plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if is_plain and not path.startswith("//") else "/"
