"""What is an operator's own: who they are, step-up, their factors, their sessions."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, SecretStr

from fleetward.base.body import Body
from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.db import Tx
from fleetward.base.errors import ForbiddenError, InvalidInputError, NotFoundError
from fleetward.base.web import Db
from fleetward.features.access.http.asking import (
    AnyMe,
    Ctx,
    FreshMe,
    From,
    Me,
    RestrictedMe,
    checking_passwords,
    find_session,
    operator_of,
    session_of,
)
from fleetward.features.access.http.signin import CeremonyView, welcome
from fleetward.features.access.http.views import (
    FactorsView,
    MeView,
    SessionView,
    TotpOfferView,
    view_factors,
    view_me,
    view_session,
)
from fleetward.features.access.model.identity import Identity, check_fresh_mfa
from fleetward.features.access.model.sessions import COOKIE
from fleetward.features.access.service import factors, operators, passkeys, sessions, signing_in
from fleetward.features.access.store.credentials import Passkey

router = APIRouter(tags=["me"])

Secret = Annotated[SecretStr, Field(max_length=1024)]
Ticket = Annotated[str, Field(max_length=4096)]


class StepUpBody(Body):
    """A passkey's answer with its challenge, or password and code."""

    challenge_id: Ticket | None = None
    credential: dict[str, Any] | None = Field(default=None, repr=False)
    password: Secret | None = None
    totp: Secret | None = None


class NewPasskeyBody(Body):
    """RegistrationResponseJSON, and what the operator calls the passkey."""

    challenge_id: Ticket
    credential: dict[str, Any] = Field(repr=False)
    label: Annotated[str, Field(max_length=64)] = ""


class NewPasswordBody(Body):
    password: Secret


class NewTotpBody(Body):
    challenge_id: Ticket
    code: Secret


@dataclass(frozen=True)
class PasskeyView:
    id: str
    label: str
    aaguid: str
    backed_up: bool
    created_at: str
    last_used_at: str | None


@dataclass(frozen=True)
class TotpCeremonyView:
    challenge_id: str
    totp: TotpOfferView


@dataclass(frozen=True)
class RecoveryCodes:
    """Shown this once."""

    recovery_codes: list[str] = field(repr=False)


@router.get("/me")
def get_me(request: Request, db: Db, ctx: Ctx, identity: AnyMe, response: Response) -> MeView:
    response.headers["Cache-Control"] = "no-store"
    session = find_session(request) if identity.via == "session" else None
    secret = None if session is None else request.cookies.get(COOKIE)
    with db.read() as tx:
        return view_me(tx, ctx, identity, session, secret)


@router.post("/me/step-up/begin")
def begin_step_up(db: Db, ctx: Ctx, identity: RestrictedMe) -> CeremonyView:
    with db.read() as tx:
        asked = passkeys.begin_assertion(tx, ctx, "step-up", operator_of(identity))
    return CeremonyView(asked.challenge_id, asked.options)


@router.post("/me/step-up/finish")
@checking_passwords
def finish_step_up(
    request: Request, db: Db, ctx: Ctx, client: From, body: StepUpBody, response: Response, _me: RestrictedMe
) -> MeView:
    """Give two factors again; the session goes on under a new cookie."""
    session = session_of(request)
    if body.credential is not None and body.challenge_id is not None:
        opened = signing_in.step_up_with_passkey(db, ctx, session, body.challenge_id, body.credential)
    elif body.password is not None and body.totp is not None:
        password, code = body.password.get_secret_value(), body.totp.get_secret_value()
        opened = signing_in.step_up_with_password(db, ctx, session, password, code, client)
    else:
        raise InvalidInputError("step-up: expected a passkey's answer, or password and totp, found neither")
    return welcome(request, db, ctx, opened, response)


@router.get("/me/passkeys")
def list_passkeys(db: Db, identity: RestrictedMe) -> list[PasskeyView]:
    with db.read() as tx:
        return [_view_passkey(one) for one in operators.list_passkeys(tx, operator_of(identity))]


@router.post("/me/passkeys/begin")
def begin_passkey(request: Request, db: Db, ctx: Ctx, identity: RestrictedMe) -> CeremonyView:
    with db.read() as tx:
        _check_may_change_factors(tx, request, identity)
        asked = passkeys.begin_registration(tx, ctx, operator_of(identity))
    return CeremonyView(asked.challenge_id, asked.options)


@router.post("/me/passkeys/finish", status_code=201)
def finish_passkey(
    request: Request, db: Db, ctx: Ctx, body: NewPasskeyBody, identity: RestrictedMe
) -> PasskeyView:
    with db.write(identity.actor) as tx:
        _check_may_change_factors(tx, request, identity)
        added = passkeys.finish_registration(
            tx, ctx, operator_of(identity), body.challenge_id, body.credential, body.label
        )
    return _view_passkey(added)


@router.delete("/me/passkeys/{passkey_id}", status_code=204)
def remove_passkey(db: Db, passkey_id: str, identity: FreshMe) -> None:
    with db.write(identity.actor) as tx:
        if not factors.remove_passkey(tx, operator_of(identity), passkey_id):
            raise NotFoundError(f"passkey {passkey_id[:64]}: expected one of yours, found none")


@router.post("/me/password")
@checking_passwords
def set_password(
    request: Request, db: Db, ctx: Ctx, client: From, body: NewPasswordBody, identity: RestrictedMe
) -> FactorsView:
    """Keep another password; every other session of the operator ends."""
    del client  # its address says whose work this is
    operator = operator_of(identity)
    with db.write(identity.actor) as tx:
        _check_may_change_factors(tx, request, identity)
        factors.set_password(tx, ctx, operator, body.password.get_secret_value())
        sessions.end_all(tx, operator, why="the password was changed", but=identity.session_id)
        return view_factors(tx, operator)


@router.post("/me/totp/begin")
def begin_totp(request: Request, db: Db, ctx: Ctx, identity: RestrictedMe) -> TotpCeremonyView:
    operator = operator_of(identity)
    with db.read() as tx:
        _check_may_change_factors(tx, request, identity)
        offer, ticket = factors.begin_totp(tx, ctx, operator)
    return TotpCeremonyView(ticket, TotpOfferView(offer.secret, offer.uri, offer.qr_svg))


@router.post("/me/totp/finish")
def finish_totp(request: Request, db: Db, ctx: Ctx, body: NewTotpBody, identity: RestrictedMe) -> FactorsView:
    operator = operator_of(identity)
    with db.write(identity.actor) as tx:
        _check_may_change_factors(tx, request, identity)
        factors.finish_totp(tx, ctx, operator, body.challenge_id, body.code.get_secret_value())
        return view_factors(tx, operator)


@router.post("/me/recovery-codes", status_code=201)
def renew_recovery_codes(db: Db, identity: FreshMe) -> RecoveryCodes:
    """Ten new codes; earlier ones stop working."""
    with db.write(identity.actor) as tx:
        return RecoveryCodes(factors.renew_recovery_codes(tx, operator_of(identity)))


@router.get("/me/sessions")
def list_sessions(db: Db, ctx: Ctx, identity: Me) -> list[SessionView]:
    with db.read() as tx:
        found = sessions.list_open(tx, ctx, operator_of(identity))
    return [view_session(ctx, one, current=identity.session_id) for one in found]


@router.delete("/me/sessions/{session_id}", status_code=204)
def end_session(db: Db, session_id: str, identity: Me) -> None:
    with db.write(identity.actor) as tx:
        sessions.end(tx, operator_of(identity), session_id, why="ended by its operator")


def _check_may_change_factors(tx: Tx, request: Request, identity: Identity) -> None:
    """Pass who gave two factors just now, or whom a restricted session lets renew them.

    A session the provider opened by one factor may register a first local factor, but not add to some:
    else a stolen provider password would be enough to take over the account.

    Raises:
        StepUpRequiredError, ForbiddenError.
    """
    if not identity.restricted:
        check_fresh_mfa(identity, tx.now)
        return
    found = operators.count_factors(tx, operator_of(identity))
    has_factor = found.passkeys > 0 or (found.password and found.totp)
    if session_of(request).method != "recovery" and has_factor:
        raise ForbiddenError(
            "session: expected a step-up with a factor you have, found none given", hint="Step up first."
        )


def _view_passkey(passkey: Passkey) -> PasskeyView:
    return PasskeyView(
        id=passkey.id,
        label=passkey.label,
        aaguid=passkey.aaguid,
        backed_up=passkey.backed_up,
        created_at=render_time(passkey.created_at),
        last_used_at=render_time_or_none(passkey.last_used_at),
    )
