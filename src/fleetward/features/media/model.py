"""A view: an operator's short permission to watch one camera. Pure."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetward.base.errors import ConflictError, ForbiddenError

TICKET_LIFETIME = timedelta(seconds=30)
MAX_VIEW = timedelta(minutes=10)


class NoSessionError(ConflictError):
    """The device has no verified session, so there is no video."""

    code = "no_verified_session"


class TicketRefusedError(ForbiddenError):
    """A ticket that opens nothing: unknown, used, or expired."""

    code = "ticket_refused"


@dataclass(frozen=True)
class View:
    """One granted view.

    Attributes:
        ticket_expires_at: until then the ticket may be redeemed, once.
        expires_at: then the view ends.
    """

    id: str
    device_id: str
    actor: str
    created_at: datetime
    ticket_expires_at: datetime
    expires_at: datetime
    redeemed_at: datetime | None = None
    closed_at: datetime | None = None


def hash_ticket(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode()).digest()


def check_ticket(view: View | None, now: datetime) -> View:
    """Return the view that a ticket opens now.

    Raises:
        TicketRefusedError: unknown, used, expired or closed.
    """
    if view is None:
        raise TicketRefusedError("viewer ticket: expected one we gave, found another", reason="unknown")
    if view.redeemed_at is not None:
        raise TicketRefusedError("viewer ticket: expected an unused one, found it used", reason="used")
    if view.closed_at is not None:
        raise TicketRefusedError("viewer ticket: expected an open view, found it closed", reason="closed")
    if now >= view.ticket_expires_at:
        raise TicketRefusedError("viewer ticket: expected a fresh one, found it expired", reason="expired")
    return view
