"""How people come in: the setup link of the first operator, invitations, and links that replace lost factors.

Each link works once, for a limited time, and is kept as a hash. Its secret stands in the fragment of the
URL, which browsers send to no server and write into no log.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id
from fleetward.features.access import store
from fleetward.features.access.context import AccessContext, Client
from fleetward.features.access.model.identity import actor_of, parse_operator_name
from fleetward.features.access.model.roles import ALL_GROUPS, Role
from fleetward.features.access.model.secrets import hash_secret, new_secret
from fleetward.features.access.model.sessions import Method
from fleetward.features.access.service import factors, grants, operators, passkeys, sessions
from fleetward.features.access.service.sessions import Opened
from fleetward.features.access.store.links import Link, LinkKind
from fleetward.features.access.store.operators import Operator, OperatorState

SETUP_LIFETIME = timedelta(minutes=30)
INVITATION_LIFETIME = timedelta(hours=24)
_PAGE_OF = {LinkKind.SETUP: "setup", LinkKind.INVITATION: "invitation", LinkKind.RECOVERY: "invitation"}


@dataclass(frozen=True)
class NewLink:
    """A link to show once."""

    url: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class Offer:
    """What a person may choose their factors from."""

    name: str
    display_name: str
    webauthn: dict[str, Any] | None
    totp: factors.TotpOffer


@dataclass(frozen=True)
class Answer:
    """The factors a person chose: a passkey, or a password and a code of the offered TOTP secret."""

    passkey: dict[str, Any] | None = field(repr=False)
    password: str | None = field(repr=False)
    totp_code: str | None = field(repr=False)


@dataclass(frozen=True)
class SignedUp:
    """A new session, and recovery codes to be shown this once."""

    opened: Opened
    recovery_codes: list[str] = field(repr=False)


def is_setup_open(tx: Tx) -> bool:
    return not store.operators.any_exists(tx)


def create_setup_link(tx: Tx, ctx: AccessContext) -> NewLink:
    """Return the link that makes the first operator; earlier ones are void.

    Raises:
        ConflictError: an operator exists.
    """
    if not is_setup_open(tx):
        raise ConflictError(
            "setup: expected no operator yet, found one",
            hint="Ask an administrator for an invitation: fleetward operator invite NAME",
        )
    store.links.close_all(tx, LinkKind.SETUP)
    journal.record(tx, "access.setup_link_created", "platform:setup")
    return _create(tx, ctx, LinkKind.SETUP, None, SETUP_LIFETIME)


def create_invitation(tx: Tx, ctx: AccessContext, operator: str, *, is_recovery: bool = False) -> NewLink:
    """Return the link by which an operator registers their factors; earlier ones of theirs are void."""
    for kind in (LinkKind.INVITATION, LinkKind.RECOVERY):
        store.links.close_all(tx, kind, operator)
    kind = LinkKind.RECOVERY if is_recovery else LinkKind.INVITATION
    return _create(tx, ctx, kind, operator, INVITATION_LIFETIME)


def begin_setup(tx: Tx, ctx: AccessContext, token: str, name: str, display_name: str) -> Offer:
    """Return the choice of factors of the first operator.

    Raises:
        NotFoundError: an operator exists, or the link is unknown, used or expired.
        InvalidInputError: the name does not do.
    """
    link = _find_setup(tx, token)
    parse_operator_name(name)
    return _offer(tx, ctx, link, name, operators.parse_display_name(display_name, name))


def finish_setup(
    tx: Tx, ctx: AccessContext, token: str, name: str, display_name: str, answer: Answer, client: Client
) -> SignedUp:
    """Create the first operator, administrator of all groups, and sign them in. Raises as `begin_setup`."""
    link = _find_setup(tx, token)
    if link.operator != name:
        raise InvalidInputError("name: expected the one the factors were offered to, found another")
    _use(tx, link)
    operator = operators.create(tx, parse_operator_name(name), display_name, OperatorState.ACTIVE)
    grants.give(tx, operator.name, Role.ADMINISTRATOR, ALL_GROUPS)
    emit(
        tx, "access.setup_finished", f"{operator.name} is the first operator; the setup link is void.",
        severity=Severity.NOTICE, operator=operator.name, address=client.address,
    )  # fmt: skip
    return _sign_up(tx, ctx, link, operator, answer, client)


def begin_invitation(tx: Tx, ctx: AccessContext, token: str) -> Offer:
    """Return the choice of factors of who was invited. Raises NotFoundError: unknown, used or expired."""
    link, operator = _find_invitation(tx, token)
    return _offer(tx, ctx, link, operator.name, operator.display_name)


def finish_invitation(tx: Tx, ctx: AccessContext, token: str, answer: Answer, client: Client) -> SignedUp:
    """Register an invited operator's factors and sign them in; a recovery link replaces all earlier ones."""
    link, operator = _find_invitation(tx, token)
    _use(tx, link)
    if link.kind is LinkKind.RECOVERY:
        store.credentials.delete_all(tx, operator.name)
        sessions.end_all(tx, operator.name, why="factors were replaced")
    store.operators.update_state(tx, operator.name, OperatorState.INVITED, OperatorState.ACTIVE)
    emit(
        tx, "operator.joined", f"{operator.name} registered their factors by a link.",
        severity=Severity.NOTICE, operator=operator.name, link=link.kind.value, address=client.address,
    )  # fmt: skip
    return _sign_up(tx, ctx, link, operator, answer, client)


def _sign_up(
    tx: Tx, ctx: AccessContext, link: Link, operator: Operator, answer: Answer, client: Client
) -> SignedUp:
    acting = replace(tx, actor=actor_of(operator.name))
    if answer.passkey is None and (answer.password is None or answer.totp_code is None):
        raise InvalidInputError("factors: expected a passkey, or a password and a code, found neither")
    if link.challenge is None or link.sealed_totp is None:
        raise InvalidInputError(
            "link: expected the choice of factors to be asked for first, found it was not"
        )
    if answer.passkey is not None:
        passkeys.register(acting, ctx, operator.name, link.challenge, answer.passkey, "Passkey")
    if answer.password is not None and answer.totp_code is not None:
        factors.set_password(acting, ctx, operator.name, answer.password)
        secret = factors.open_totp(ctx, link.sealed_totp)
        factors.set_totp(acting, ctx, operator.name, secret, answer.totp_code)
    codes = factors.renew_recovery_codes(acting, operator.name)
    method: Method = "passkey" if answer.passkey is not None else "password"
    return SignedUp(sessions.open_session(acting, ctx, operator.name, method, client, has_mfa=True), codes)


def _offer(tx: Tx, ctx: AccessContext, link: Link, name: str, display_name: str) -> Offer:
    totp = factors.offer_totp(ctx, name)
    found = store.operators.find(tx, name)
    webauthn_id = operators.webauthn_id_for(name) if found is None else found.webauthn_id
    challenge, options = passkeys.registration_options(tx, ctx, name, display_name, webauthn_id)
    store.links.offer(tx, link.id, name, challenge, factors.seal_totp(ctx, totp.secret))
    return Offer(name, display_name, options if ctx.can_use_passkeys else None, totp)


def _create(tx: Tx, ctx: AccessContext, kind: LinkKind, operator: str | None, lifetime: timedelta) -> NewLink:
    token = new_secret()
    link = Link(new_id("lnk"), hash_secret(token), kind, operator, tx.actor, tx.now, tx.now + lifetime)
    store.links.insert(tx, link)
    return NewLink(f"{ctx.console}/{_PAGE_OF[kind]}#{token}", link.expires_at)


def _find_setup(tx: Tx, token: str) -> Link:
    link = store.links.find_open(tx, hash_secret(token))
    if link is None or link.kind is not LinkKind.SETUP or not is_setup_open(tx):
        raise _no_link("fleetward --data DIR operator setup-link")
    return link


def _find_invitation(tx: Tx, token: str) -> tuple[Link, Operator]:
    link = store.links.find_open(tx, hash_secret(token))
    operator = None if link is None or link.operator is None else store.operators.find(tx, link.operator)
    if link is None or operator is None or operator.state is OperatorState.DISABLED:
        raise _no_link("fleetward operator invite NAME")
    return link, operator


def _use(tx: Tx, link: Link) -> None:
    """Use a link up; of two who hold it, the second is refused here."""
    if not store.links.close(tx, link.id):
        raise _no_link("Ask for a new one.")


def _no_link(hint: str) -> NotFoundError:
    return NotFoundError("link: expected one that is fresh and unused, found none", hint=f"A new one: {hint}")
