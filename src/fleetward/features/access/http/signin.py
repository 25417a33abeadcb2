"""Public routes of sign-in: passkey, password with code, recovery code, command line; and sign-out."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, SecretStr

from fleetward.base.body import Body
from fleetward.base.db import Database
from fleetward.base.web import Db
from fleetward.features.access.context import AccessContext
from fleetward.features.access.http.asking import (
    AnyMe,
    Ctx,
    From,
    checking_passwords,
    drop_cookie,
    find_session,
    set_cookie,
)
from fleetward.features.access.http.views import MeView, view_me
from fleetward.features.access.model.identity import Identity, actor_of
from fleetward.features.access.model.sessions import Session
from fleetward.features.access.service import passkeys, sessions, signing_in, tokens
from fleetward.features.access.service.sessions import Opened

router = APIRouter(tags=["sign-in"])

Secret = Annotated[SecretStr, Field(max_length=1024)]
Name = Annotated[str, Field(max_length=64)]
Ticket = Annotated[str, Field(max_length=4096)]


class PasskeyBody(Body):
    """What the browser's authenticator answered (AuthenticationResponseJSON)."""

    challenge_id: Ticket
    credential: dict[str, Any] = Field(repr=False)


class PasswordBody(Body):
    name: Name
    password: Secret
    totp: Secret


class RecoveryBody(Body):
    name: Name
    code: Secret


@dataclass(frozen=True)
class CeremonyView:
    """PublicKeyCredential…OptionsJSON for the browser; `challenge_id` comes back with its answer."""

    challenge_id: str
    options: dict[str, Any]


@dataclass(frozen=True)
class OidcOption:
    name: str


@dataclass(frozen=True)
class SigninOptions:
    """The ways to sign in that this platform has."""

    passkey: bool
    password: bool
    oidc: OidcOption | None


@router.get("/signin/options")
def get_options(ctx: Ctx) -> SigninOptions:
    oidc = None if ctx.sso is None else OidcOption(ctx.sso.name)
    return SigninOptions(passkey=ctx.can_use_passkeys, password=True, oidc=oidc)


@router.post("/signin/passkey/begin")
def begin_passkey(db: Db, ctx: Ctx) -> CeremonyView:
    with db.read() as tx:
        asked = passkeys.begin_assertion(tx, ctx, "signin")
    return CeremonyView(asked.challenge_id, asked.options)


@router.post("/signin/passkey/finish")
def finish_passkey(
    request: Request, db: Db, ctx: Ctx, client: From, body: PasskeyBody, response: Response
) -> MeView:
    opened = signing_in.sign_in_with_passkey(db, ctx, body.challenge_id, body.credential, client)
    return welcome(request, db, ctx, opened, response)


@router.post("/signin/password")
@checking_passwords
def with_password(
    request: Request, db: Db, ctx: Ctx, client: From, body: PasswordBody, response: Response
) -> MeView:
    """Password and code together; every failure answers the same, after the same work."""
    opened = signing_in.sign_in_with_password(
        db, ctx, body.name, body.password.get_secret_value(), body.totp.get_secret_value(), client
    )
    return welcome(request, db, ctx, opened, response)


@router.post("/signin/recovery")
def with_recovery_code(
    request: Request, db: Db, ctx: Ctx, client: From, body: RecoveryBody, response: Response
) -> MeView:
    """A recovery code opens a session that may only register new factors."""
    opened = signing_in.sign_in_with_recovery_code(db, ctx, body.name, body.code.get_secret_value(), client)
    return welcome(request, db, ctx, opened, response)


@router.post("/signout", status_code=204)
def sign_out(db: Db, identity: AnyMe) -> Response:
    """End this session, or revoke this command line's token."""
    if identity.operator is not None:
        with db.write(identity.actor) as tx:
            if identity.session_id is not None:
                sessions.end(tx, identity.operator, identity.session_id, why="signed out")
            elif identity.token_id is not None:
                tokens.revoke(tx, identity.operator, identity.token_id)
    answer = Response(status_code=204)
    drop_cookie(answer)
    return answer


def welcome(request: Request, db: Database, ctx: AccessContext, opened: Opened, response: Response) -> MeView:
    """Return who has signed in, with the session's cookie; the session the browser had before ends."""
    previous = find_session(request)
    if previous is not None and previous.id != opened.session.id:
        with db.write(actor_of(previous.operator)) as tx:
            sessions.end(tx, previous.operator, previous.id, why="the browser signed in anew")
    set_cookie(response, opened)
    with db.read() as tx:
        return view_me(tx, ctx, identity_of(opened.session), opened.session, opened.secret)


def identity_of(session: Session) -> Identity:
    return Identity(
        actor_of(session.operator), session.operator, "session", session.mfa_at, None, session.id,
        restricted=session.restricted,
    )  # fmt: skip
