"""Public routes by which people come in: the first operator, and who holds an invitation."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field, SecretStr

from fleetward.base.body import Body
from fleetward.base.clock import render_time
from fleetward.base.web import Db, Principal, requires
from fleetward.features.access.http.asking import Ctx, From, checking_passwords, set_cookie
from fleetward.features.access.http.views import (
    PASSWORD_RULES,
    PasswordRules,
    TotpOfferView,
    view_totp,
)
from fleetward.features.access.model.secrets import csrf_token
from fleetward.features.access.service import holding_back, signing_up
from fleetward.features.access.service.signing_up import Answer, Offer, SignedUp

router = APIRouter(tags=["setup"])
_ACTOR = "system:access"

Name = Annotated[str, Field(min_length=1, max_length=64)]
DisplayName = Annotated[str, Field(max_length=128)]
Secret = Annotated[SecretStr, Field(max_length=1024)]


class SetupBody(Body):
    """The link's token, and what the first operator calls themselves."""

    token: Secret
    name: Name
    display_name: DisplayName = ""


class FactorsBody(Body):
    """A passkey (RegistrationResponseJSON), or a password with a code of the offered TOTP secret."""

    passkey: dict[str, Any] | None = Field(default=None, repr=False)
    password: Secret | None = None
    totp_code: Secret | None = None


class SetupAnswerBody(FactorsBody, SetupBody):
    """All of it at once."""


class InvitationBody(Body):
    token: Secret


class InvitationAnswerBody(FactorsBody, InvitationBody):
    """The link's token and the chosen factors."""


@dataclass(frozen=True)
class SetupState:
    open: bool


@dataclass(frozen=True)
class SignupOffer:
    """What to choose from; `webauthn` (PublicKeyCredentialCreationOptionsJSON) is null at an IP address."""

    name: str
    display_name: str
    webauthn: dict[str, Any] | None
    totp: TotpOfferView
    password_rules: PasswordRules


@dataclass(frozen=True)
class SignedUpView:
    """Recovery codes are shown this once; `csrf` goes into X-Fleetward-CSRF."""

    operator: str
    recovery_codes: list[str] = field(repr=False)
    csrf: str = field(repr=False)


@dataclass(frozen=True)
class LinkView:
    link: str = field(repr=False)
    expires_at: str


@router.get("/setup")
def get_state(db: Db) -> SetupState:
    """Whether the first operator is still to be made."""
    with db.read() as tx:
        return SetupState(signing_up.is_setup_open(tx))


@router.post("/setup/link", status_code=201)
def create_link(db: Db, ctx: Ctx, principal: Annotated[Principal, requires("operator.recover")]) -> LinkView:
    """A fresh setup link; earlier ones are void. Only while no operator exists."""
    with db.write(principal.actor) as tx:
        link = signing_up.create_setup_link(tx, ctx)
    return LinkView(link.url, render_time(link.expires_at))


@router.post("/setup/begin")
def begin_setup(db: Db, ctx: Ctx, client: From, body: SetupBody) -> SignupOffer:
    with holding_back.guarding_links(db, client.address), db.write(_ACTOR) as tx:
        offer = signing_up.begin_setup(tx, ctx, body.token.get_secret_value(), body.name, body.display_name)
    return _view_offer(offer)


@router.post("/setup/finish", status_code=201)
@checking_passwords
def finish_setup(db: Db, ctx: Ctx, client: From, body: SetupAnswerBody, response: Response) -> SignedUpView:
    token = body.token.get_secret_value()
    with holding_back.guarding_links(db, client.address), db.write(_ACTOR) as tx:
        done = signing_up.finish_setup(tx, ctx, token, body.name, body.display_name, _answer(body), client)
    return _view_signed_up(done, response)


@router.post("/signin/invitation/begin")
def begin_invitation(db: Db, ctx: Ctx, client: From, body: InvitationBody) -> SignupOffer:
    with holding_back.guarding_links(db, client.address), db.write(_ACTOR) as tx:
        return _view_offer(signing_up.begin_invitation(tx, ctx, body.token.get_secret_value()))


@router.post("/signin/invitation/finish", status_code=201)
@checking_passwords
def finish_invitation(
    db: Db, ctx: Ctx, client: From, body: InvitationAnswerBody, response: Response
) -> SignedUpView:
    with holding_back.guarding_links(db, client.address), db.write(_ACTOR) as tx:
        done = signing_up.finish_invitation(tx, ctx, body.token.get_secret_value(), _answer(body), client)
    return _view_signed_up(done, response)


def _answer(body: FactorsBody) -> Answer:
    password = None if body.password is None else body.password.get_secret_value()
    code = None if body.totp_code is None else body.totp_code.get_secret_value()
    return Answer(body.passkey, password, code)


def _view_offer(offer: Offer) -> SignupOffer:
    return SignupOffer(offer.name, offer.display_name, offer.webauthn, view_totp(offer.totp), PASSWORD_RULES)


def _view_signed_up(done: SignedUp, response: Response) -> SignedUpView:
    set_cookie(response, done.opened)
    csrf = csrf_token(done.opened.secret)
    return SignedUpView(done.opened.session.operator, done.recovery_codes, csrf)
