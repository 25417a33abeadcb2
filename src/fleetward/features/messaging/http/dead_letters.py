"""Operator routes: messages that could be read and not handled."""

import base64
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request

from fleetward.base import journal
from fleetward.base.web import Db, Principal, requires
from fleetward.features.messaging.http.context import MessagingContext
from fleetward.features.messaging.ports import DeadLetter, DeadLetters

router = APIRouter(tags=["messaging"])
_MAX_LISTED = 1000


@dataclass(frozen=True)
class DeadLetterView:
    number: int
    consumer: str
    subject: str
    device: str | None
    received_at: str
    failed_at: str
    failures: int
    reason: str


@dataclass(frozen=True)
class DeadLetterDetail(DeadLetterView):
    """`payload` is what was sent, as text where it is any; `payload_base64` the bytes themselves."""

    payload: str
    payload_base64: str


@dataclass(frozen=True)
class ReplayView:
    """What came of it: it is gone when it was handled, and failed again for `reason` when not."""

    number: int
    handled: bool
    reason: str


@router.get("/deadletters")
def list_dead_letters(
    request: Request,
    _principal: Annotated[Principal, requires("deadletter.read")],
    limit: Annotated[int, Query(ge=1, le=_MAX_LISTED)] = 100,
) -> list[DeadLetterView]:
    """Return the last ones, newest first, without what they hold."""
    return [_view(one) for one in _letters(request).list_dead_letters(limit)]


@router.get("/deadletters/{number}")
def get_dead_letter(
    request: Request, number: int, _principal: Annotated[Principal, requires("deadletter.read")]
) -> DeadLetterDetail:
    found = _letters(request).get_dead_letter(number)
    text = found.payload.decode(errors="replace")
    return DeadLetterDetail(
        **vars(_view(found)), payload=text, payload_base64=base64.b64encode(found.payload).decode()
    )


@router.post("/deadletters/{number}/replay")
def replay_dead_letter(
    request: Request, db: Db, number: int, principal: Annotated[Principal, requires("deadletter.manage")]
) -> ReplayView:
    """Have its consumer handle it once more. Audited before: playing it twice changes nothing."""
    letters = _letters(request)
    letter = letters.get_dead_letter(number)
    with db.write(principal.actor) as tx:
        journal.record(
            tx, "deadletter.replayed", f"deadletter:{number}", consumer=letter.consumer, device=letter.device
        )
    outcome = letters.replay_dead_letter(letter)
    return ReplayView(number, outcome.handled, outcome.reason)


@router.delete("/deadletters/{number}")
def drop_dead_letter(
    request: Request, db: Db, number: int, principal: Annotated[Principal, requires("deadletter.manage")]
) -> DeadLetterView:
    """Delete it for good, once that is in the audit log."""
    letters = _letters(request)
    letter = letters.get_dead_letter(number)
    with db.write(principal.actor) as tx:
        journal.record(
            tx, "deadletter.dropped", f"deadletter:{number}", consumer=letter.consumer, device=letter.device
        )
    letters.drop_dead_letter(number)
    return _view(letter)


def _letters(request: Request) -> DeadLetters:
    context: MessagingContext = request.app.state.messaging
    return context.dead_letters


def _view(letter: DeadLetter) -> DeadLetterView:
    return DeadLetterView(
        letter.number,
        letter.consumer,
        letter.subject,
        letter.device,
        letter.received_at,
        letter.failed_at,
        letter.failures,
        letter.reason,
    )
