"""Use cases of live video: grant a view, redeem its ticket, close it. No verified session, no video."""

from collections.abc import Callable
from datetime import timedelta

from fleetward.base import journal
from fleetward.base.clock import render_time
from fleetward.base.db import Tx
from fleetward.base.errors import NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id, new_token
from fleetward.features.devices import service as devices
from fleetward.features.media import store
from fleetward.features.media.model import (
    MAX_VIEW,
    TICKET_LIFETIME,
    NoSessionError,
    View,
    check_ticket,
    hash_ticket,
)
from fleetward.features.messaging import service as messaging
from fleetward.features.messaging.model import find_refusal

KEPT = timedelta(days=30)


def open_view(tx: Tx, device_id: str, *, longest: timedelta = MAX_VIEW) -> tuple[View, str]:
    """Grant a view of a device that may hold a session now; return it and its ticket, shown this once.

    Raises:
        NotFoundError: no such device.
        NoSessionError: it may hold no session: not active, revoked, or without a good, fresh appraisal.
    """
    devices.get_device(tx, device_id)
    record = messaging.admission_record(tx, device_id)
    refusal = find_refusal(record, None, tx.now)
    if refusal is not None:
        raise NoSessionError(
            f"device {device_id}: expected a verified session, found none possible: {refusal.finding}",
            hint=f"See why: fleetward device show {device_id}",
            reason=refusal.code.value,
        )
    ticket = new_token()
    view = View(
        id=new_id("view"),
        device_id=device_id,
        actor=tx.actor,
        created_at=tx.now,
        ticket_expires_at=tx.now + TICKET_LIFETIME,
        expires_at=tx.now + longest,
    )
    store.insert_view(tx, view, hash_ticket(ticket))
    journal.record(
        tx, "view.granted", f"device:{device_id}", view=view.id, expires_at=render_time(view.expires_at)
    )
    return view, ticket


def redeem_ticket(tx: Tx, ticket: str) -> View:
    """Return the view a ticket opens, and spend the ticket.

    Raises:
        TicketRefusedError: unknown, used, expired or closed.
    """
    view = check_ticket(store.find_by_ticket(tx, hash_ticket(ticket)), tx.now)
    if not store.redeem(tx, view.id):
        check_ticket(store.find_view(tx, view.id), tx.now)
    journal.record(tx, "view.opened", f"device:{view.device_id}", view=view.id, viewer=view.actor)
    emit(
        tx, "view.opened", f"{view.actor} watches device {view.device_id}.", device=view.device_id,
        severity=Severity.NOTICE, view=view.id,
    )  # fmt: skip
    return view


def get_view(tx: Tx, view_id: str) -> View:
    """Return a view. Raises NotFoundError."""
    found = store.find_view(tx, view_id)
    if found is None:
        raise _not_found(view_id)
    return found


def check_visible(tx: Tx, view_id: str, covers: Callable[[str], bool]) -> None:
    """Pass when the view's device is in a group that the caller covers.

    Raises:
        NotFoundError: it is not, or there is no such view: the two read alike.
    """
    group = devices.find_group(tx, get_view(tx, view_id).device_id)
    if group is None or not covers(group):
        raise _not_found(view_id)


def close_view(tx: Tx, view_id: str, reason: str) -> None:
    """Record that a view has ended; closing it again changes nothing.

    Raises:
        NotFoundError: no such view.
    """
    view = get_view(tx, view_id)
    if not store.close(tx, view_id):
        return
    journal.record(tx, "view.closed", f"device:{view.device_id}", view=view_id, reason=reason)
    emit(
        tx, "view.closed", f"A view of device {view.device_id} ended: {reason}.", device=view.device_id,
        view=view_id, reason=reason,
    )  # fmt: skip


def record_refusal(tx: Tx, device_id: str | None, reason: str, message: str, *, repeats: int) -> None:
    """Tell that someone was refused video, and how many equal refusals were held back before."""
    emit(
        tx, "media.refused", message, device=device_id, severity=Severity.WARNING, reason=reason,
        repeats=repeats,
    )  # fmt: skip


def forget_old(tx: Tx) -> int:
    """Delete views that ended 30 days ago; the audit log keeps them. Return how many."""
    return store.delete_older(tx, tx.now - KEPT)


def _not_found(view_id: str) -> NotFoundError:
    return NotFoundError(f"view {view_id[:64]}: expected one that was granted, found none")
