"""Routes by which an operator answers the sign-in of a command line."""

from dataclasses import dataclass

from fastapi import APIRouter

from fleetward.base.clock import render_time
from fleetward.base.web import Db
from fleetward.features.access.http.asking import FreshMe, Me, operator_of
from fleetward.features.access.service import device_codes

router = APIRouter(tags=["sign-in"])


@dataclass(frozen=True)
class PendingSignIn:
    """A program that waits to be let in: compare what it says of itself."""

    user_code: str
    client: str
    address: str
    created_at: str
    expires_at: str


@router.get("/device-codes/{user_code}")
def get_pending(db: Db, user_code: str, _identity: Me) -> PendingSignIn:
    with db.read() as tx:
        code = device_codes.get_pending(tx, user_code)
    return PendingSignIn(
        code.user_code, code.client, code.address, render_time(code.created_at), render_time(code.expires_at)
    )


@router.post("/device-codes/{user_code}/approve", status_code=204)
def approve(db: Db, user_code: str, identity: FreshMe) -> None:
    """Let the program act as you for twelve hours; needs two factors given within five minutes."""
    with db.write(identity.actor) as tx:
        device_codes.answer(tx, operator_of(identity), user_code, is_approved=True)


@router.post("/device-codes/{user_code}/deny", status_code=204)
def deny(db: Db, user_code: str, identity: Me) -> None:
    with db.write(identity.actor) as tx:
        device_codes.answer(tx, operator_of(identity), user_code, is_approved=False)
