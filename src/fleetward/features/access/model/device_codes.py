"""Sign-in of a command line through a browser (RFC 8628)."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleetward.base.errors import FleetwardError, InvalidInputError

LIFETIME = timedelta(minutes=10)
INTERVAL_S = 2
SLOW_DOWN_S = 5
# Consonants only, so that no word appears (RFC 8628 section 6.1): 20^8 codes, 34 bits for ten minutes.
_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
_CHARS = 8


class CodeState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    REDEEMED = "redeemed"


@dataclass(frozen=True)
class DeviceCode:
    """A sign-in in progress, without its secret.

    Attributes:
        client: what the program calls itself.
        network: of the address, by which strangers are counted.
        scopes: permissions the token is to be limited to; None: it acts as its operator.
        token_name, token_lifetime_s: of a token for a program; None where a command line asks for its own.
        answered_at: when its operator, who had given two factors just before, approved or denied it.
    """

    id: str
    user_code: str
    client: str
    address: str
    network: str | None
    state: CodeState
    operator: str | None
    created_at: datetime
    expires_at: datetime
    interval_s: int
    polled_at: datetime | None
    scopes: frozenset[str] | None = None
    token_name: str | None = None
    token_lifetime_s: int | None = None
    answered_at: datetime | None = None


class AuthorizationPendingError(InvalidInputError):
    """Nobody has answered yet; ask again after the interval."""

    code = "authorization_pending"


class SlowDownError(InvalidInputError):
    """Asked before the interval was over, which is now five seconds longer."""

    code = "slow_down"


class ExpiredCodeError(InvalidInputError):
    """Unknown, used or expired."""

    code = "expired_token"


class AccessDeniedError(InvalidInputError):
    """The operator said no."""

    code = "access_denied"


def new_user_code() -> str:
    """Return a code to be compared or typed, such as `WDJB-MJHT`."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(_CHARS))
    return f"{letters[:4]}-{letters[4:]}"


def parse_user_code(text: str) -> str:
    """Return the one spelling of a code as people type it."""
    plain = "".join(letter for letter in text.upper() if letter in _ALPHABET)[:_CHARS]
    return f"{plain[:4]}-{plain[4:]}"


def judge_poll(code: DeviceCode | None, now: datetime) -> FleetwardError | None:
    """Return why a poll gets no token, or None when it does (RFC 8628 section 3.5)."""
    if code is None or code.state is CodeState.REDEEMED or now >= code.expires_at:
        return ExpiredCodeError("device_code: expected one in progress, found none", hint="Sign in again.")
    if code.state is CodeState.DENIED:
        return AccessDeniedError("sign-in: expected approval in the browser, found it denied")
    if code.state is CodeState.APPROVED:
        return None
    if code.polled_at is not None and now < code.polled_at + timedelta(seconds=code.interval_s):
        return SlowDownError(f"poll: expected {code.interval_s} s between two, found less")
    return AuthorizationPendingError("sign-in: expected approval in the browser, found none yet")
