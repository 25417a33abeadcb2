"""Tokens of programs and of command lines."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from fleetward.base.errors import InvalidInputError

MAX_LIFETIME = timedelta(days=90)
CLI_LIFETIME = timedelta(hours=12)
MAX_NAME_CHARS = 64
SEEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Token:
    """A token, without its secret.

    Attributes:
        scopes: permissions it is limited to; None for a command line, which acts as its operator.
        mfa_at: when the operator gave two factors for it; None for a program's, which nobody steps up.
    """

    id: str
    operator: str
    kind: Literal["api", "cli"]
    name: str
    scopes: frozenset[str] | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    mfa_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        return self.revoked_at is None and now < self.expires_at


def parse_scopes(names: Iterable[str], known: Collection[str]) -> frozenset[str]:
    """Return the permissions named. Raises InvalidInputError: none, or one that is not known."""
    scopes = frozenset(names)
    if not scopes:
        raise InvalidInputError("scopes: expected at least one permission, found none")
    unknown = sorted(scopes.difference(known))
    if unknown:
        raise InvalidInputError(
            f"scopes: expected permissions such as device.read, found {unknown[0][:40]!r}"
        )
    return scopes


def check_lifetime(lifetime: timedelta) -> timedelta:
    """Return `lifetime`. Raises InvalidInputError: over 90 days."""
    if lifetime > MAX_LIFETIME:
        raise InvalidInputError(f"expires_in: expected at most {MAX_LIFETIME.days}d, found {lifetime.days}d")
    return lifetime


def parse_token_name(text: str) -> str:
    name = text.strip()
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise InvalidInputError(f"name: expected 1 to {MAX_NAME_CHARS} printable characters, found another")
    return name
