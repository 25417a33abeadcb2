"""Routes by which an operator answers the sign-in of a command line."""

from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter, Request

from fleetward.base.clock import render_time
from fleetward.base.ids import render_duration
from fleetward.base.web import Db, edge_of
from fleetward.features.access.http.asking import FreshMe, From, Me, operator_of
from fleetward.features.access.model.sign_in_limits import network_of
from fleetward.features.access.model.tokens import CLI_LIFETIME
from fleetward.features.access.service import device_codes

router = APIRouter(tags=["sign-in"])


@dataclass(frozen=True)
class PendingSignIn:
    """A program that waits to be let in: compare what it says of itself.

    Attributes:
        is_near: whether it asked from the network that you ask from.
        may: the permissions that its token would be limited to; None: it acts as you.
        token_name: of a token for a program, that outlives this sign-in; None: a command line's.
        lifetime: how long it would work.
    """

    user_code: str
    client: str
    address: str
    is_near: bool
    may: list[str] | None
    token_name: str | None
    lifetime: str
    created_at: str
    expires_at: str


@router.get("/device-codes/{user_code}")
def get_pending(db: Db, user_code: str, client: From, _identity: Me) -> PendingSignIn:
    with db.read() as tx:
        code = device_codes.get_pending(tx, user_code)
    seconds = code.token_lifetime_s
    return PendingSignIn(
        user_code=code.user_code,
        client=code.client,
        address=code.address,
        is_near=network_of(code.address) == network_of(client.address),
        may=None if code.scopes is None else sorted(code.scopes),
        token_name=code.token_name,
        lifetime=render_duration(CLI_LIFETIME if seconds is None else timedelta(seconds=seconds)),
        created_at=render_time(code.created_at),
        expires_at=render_time(code.expires_at),
    )


@router.post("/device-codes/{user_code}/approve", status_code=204)
def approve(request: Request, db: Db, user_code: str, identity: FreshMe) -> None:
    """Let the program act as you for twelve hours, or make it its token; needs two factors just given."""
    with db.read() as tx:
        asks_for_token = device_codes.get_pending(tx, user_code).token_name is not None
    if asks_for_token:
        edge_of(request).authenticator.authorize(request, "token.create")
    with db.write(identity.actor) as tx:
        device_codes.answer(tx, operator_of(identity), user_code, is_approved=True)


@router.post("/device-codes/{user_code}/deny", status_code=204)
def deny(db: Db, user_code: str, identity: Me) -> None:
    with db.write(identity.actor) as tx:
        device_codes.answer(tx, operator_of(identity), user_code, is_approved=False)
