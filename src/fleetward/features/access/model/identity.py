"""Who is asking, and what they were given."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from fleetward.base.clock import is_ahead
from fleetward.base.errors import ForbiddenError, InvalidInputError
from fleetward.base.ids import parse_id
from fleetward.features.access.model.roles import Role

LOCAL_ACTOR = "operator:admin"
STEP_UP_LIFETIME = timedelta(minutes=5)
# The local token acts under `admin`; a person may not take it, nor a name that reads like the system's.
RESERVED_NAMES = frozenset({"admin", "local", "system", "fleetward"})


@dataclass(frozen=True)
class Identity:
    """The proven identity behind one request.

    Attributes:
        actor: `operator:<name>`; that of the local token is `operator:admin`.
        operator: the operator's name; None for the local token.
        mfa_at: when they last gave two factors in this session; None for tokens.
        scopes: permissions a token is limited to; None means it is not limited.
        restricted: a session that may only register a factor or give two of them (recovery, weak SSO).
    """

    actor: str
    operator: str | None
    via: Literal["session", "token", "local"]
    mfa_at: datetime | None
    scopes: frozenset[str] | None
    session_id: str | None
    restricted: bool
    token_id: str | None = None


@dataclass(frozen=True)
class Grant:
    """One role of one operator, in one group of devices or in all (`*`)."""

    id: str
    operator: str
    role: Role
    group: str
    given_by: str
    given_at: datetime
    last_used_at: datetime | None


class StepUpRequiredError(ForbiddenError):
    """A dangerous act needs two factors given within the last five minutes."""

    code = "step_up_required"


class BrowserRequiredError(ForbiddenError):
    """What outlives a token is not made by a token."""

    code = "browser_required"


def check_fresh_mfa(identity: Identity, now: datetime) -> None:
    """Pass when two factors were given within five minutes. Raises StepUpRequiredError."""
    at = identity.mfa_at
    if at is None or is_ahead(at, now) or now - at > STEP_UP_LIFETIME:
        raise StepUpRequiredError(
            "sign-in: expected two factors given within the last 5 minutes, found them older",
            hint="Confirm who you are once more; on the command line: fleetward login.",
        )


def check_in_browser(identity: Identity) -> None:
    """Pass whoever signed in by a browser. Raises BrowserRequiredError: a token asks."""
    if identity.via != "session":
        raise BrowserRequiredError(
            "sign-in: expected a browser's session, found a token",
            hint="Ways to sign in and tokens are changed in the console, under Your account and Operators.",
        )


def actor_of(operator: str) -> str:
    return f"operator:{operator}"


def parse_operator_name(text: str) -> str:
    """Return a valid operator name. Raises InvalidInputError: not a lower-case id, or reserved."""
    parse_id(text, what="operator")
    if text != text.lower():
        raise InvalidInputError(f"operator id: expected lower case, found {text!r}")
    if text in RESERVED_NAMES:
        raise InvalidInputError(
            f"operator id: expected a name of a person's own, found the reserved {text!r}"
        )
    return text
