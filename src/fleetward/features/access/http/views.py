"""The public forms of operators, sessions and tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.db import Tx
from fleetward.features.access.context import AccessContext
from fleetward.features.access.model.identity import Grant, Identity
from fleetward.features.access.model.passwords import MIN_LENGTH, MIN_SCORE
from fleetward.features.access.model.secrets import csrf_token
from fleetward.features.access.model.sessions import Session
from fleetward.features.access.model.tokens import Token
from fleetward.features.access.service import grants, operators
from fleetward.features.access.service.factors import TotpOffer


@dataclass(frozen=True)
class GrantView:
    id: str
    role: str
    group: str
    given_by: str
    given_at: str
    last_used_at: str | None


@dataclass(frozen=True)
class FactorsView:
    passkeys: int
    totp: bool
    password: bool
    recovery_codes_left: int


@dataclass(frozen=True)
class SessionView:
    """A session; `method` is how it was opened."""

    id: str
    method: str
    address: str
    user_agent: str
    created_at: str
    last_seen_at: str
    expires_at: str
    idle_expires_at: str
    current: bool


@dataclass(frozen=True)
class MeView:
    """Who is signed in and what they may do: permission → groups, or `*` for all."""

    name: str
    display_name: str
    via: Literal["session", "token", "local"]
    grants: list[GrantView]
    permissions: dict[str, list[str] | Literal["*"]]
    mfa_at: str | None
    csrf: str | None = field(repr=False)
    session: SessionView | None
    restricted: bool
    factors: FactorsView


@dataclass(frozen=True)
class OperatorView:
    name: str
    display_name: str
    state: str
    sso: bool
    grants: list[GrantView]
    created_by: str
    created_at: str
    last_seen_at: str | None
    factors: FactorsView


@dataclass(frozen=True)
class PasswordRules:
    """A password has `min_length` characters, or fewer that zxcvbn scores `min_score`."""

    min_length: int
    min_score: int


@dataclass(frozen=True)
class TotpOfferView:
    """A secret for an authenticator app: as text, as `otpauth:` URI, as a QR code in SVG."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)
    qr_svg: str = field(repr=False)


@dataclass(frozen=True)
class TokenView:
    """A token; `scopes` null is a command line that acts as its operator."""

    id: str
    name: str
    kind: str
    scopes: list[str] | None
    created_at: str
    expires_at: str
    last_used_at: str | None


PASSWORD_RULES = PasswordRules(MIN_LENGTH, MIN_SCORE)


def view_grant(grant: Grant) -> GrantView:
    last_used_at = render_time_or_none(grant.last_used_at)
    given_at = render_time(grant.given_at)
    return GrantView(grant.id, grant.role.value, grant.group, grant.given_by, given_at, last_used_at)


def view_session(ctx: AccessContext, session: Session, *, current: str | None) -> SessionView:
    return SessionView(
        id=session.id,
        method=session.method,
        address=session.address,
        user_agent=session.user_agent,
        created_at=render_time(session.created_at),
        last_seen_at=render_time(session.last_seen_at),
        expires_at=render_time(session.expires_at),
        idle_expires_at=render_time(min(session.last_seen_at + ctx.idle, session.expires_at)),
        current=session.id == current,
    )


def view_token(token: Token) -> TokenView:
    return TokenView(
        id=token.id,
        name=token.name,
        kind=token.kind,
        scopes=None if token.scopes is None else sorted(token.scopes),
        created_at=render_time(token.created_at),
        expires_at=render_time(token.expires_at),
        last_used_at=render_time_or_none(token.last_used_at),
    )


def view_totp(offer: TotpOffer) -> TotpOfferView:
    return TotpOfferView(offer.secret, offer.uri, offer.qr_svg)


def view_factors(tx: Tx, name: str) -> FactorsView:
    found = operators.count_factors(tx, name)
    return FactorsView(found.passkeys, found.totp, found.password, found.recovery_codes_left)


def view_operator(tx: Tx, name: str) -> OperatorView:
    operator = operators.get(tx, name)
    return OperatorView(
        name=name,
        display_name=operator.display_name,
        state=operator.state.value,
        sso=operator.subject is not None,
        grants=[view_grant(one) for one in grants.list_grants(tx, name)],
        created_by=operator.created_by,
        created_at=render_time(operator.created_at),
        last_seen_at=render_time_or_none(operator.last_seen_at),
        factors=view_factors(tx, name),
    )


def view_me(
    tx: Tx, ctx: AccessContext, identity: Identity, session: Session | None, secret: str | None
) -> MeView:
    """Return who is signed in; `secret` is the session's, for its CSRF token."""
    name = identity.operator
    operator = None if name is None else operators.get(tx, name)
    return MeView(
        name=identity.actor.partition(":")[2],
        display_name="The local administrator" if operator is None else operator.display_name,
        via=identity.via,
        grants=[] if name is None else [view_grant(one) for one in grants.list_grants(tx, name)],
        permissions=_permissions({} if identity.restricted else ctx.decider.list_rights(tx, identity)),
        mfa_at=render_time_or_none(identity.mfa_at),
        csrf=None if secret is None else csrf_token(secret),
        session=None if session is None else view_session(ctx, session, current=session.id),
        restricted=identity.restricted,
        factors=FactorsView(0, False, False, 0) if name is None else view_factors(tx, name),  # noqa: FBT003 - fields
    )


def _permissions(rights: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    return {name: "*" if "*" in groups else sorted(groups) for name, groups in sorted(rights.items())}
