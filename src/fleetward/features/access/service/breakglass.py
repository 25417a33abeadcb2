"""Break-glass: asked for by one, approved by another, over after half an hour, reviewed afterwards."""

from dataclasses import replace

from fleetward.base import journal
from fleetward.base.clock import render_time
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, ForbiddenError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id
from fleetward.features.access import store
from fleetward.features.access.model.breakglass import Glass, GlassState
from fleetward.features.access.model.identity import actor_of
from fleetward.features.access.model.policy import OwnRightsError
from fleetward.features.audit import service as audit
from fleetward.features.audit.model.entry import Entry

_MAX_LISTED = 200
_MAX_ACTS = 1000


def request(tx: Tx, operator: str | None, reason: str) -> Glass:
    """Ask another person to break the glass.

    Raises:
        ForbiddenError: the platform's own token asks; an emergency is a person's.
        ConflictError: one of theirs is under way, or not reviewed.
    """
    if operator is None:
        raise ForbiddenError("break-glass: expected an operator, found the platform's own token")
    waiting = [one.id for one in store.breakglass.list_open_requests(tx, operator)
               if one.state_at(tx.now) is GlassState.REQUESTED]  # fmt: skip
    unreviewed = store.breakglass.find_unreviewed(tx, operator)
    if waiting or unreviewed is not None:
        found = waiting[0] if unreviewed is None else unreviewed.id
        raise ConflictError(f"break-glass: expected none of {operator} under way, found {found}")
    glass = Glass(new_id("bg"), operator, reason, tx.now)
    store.breakglass.insert(tx, glass)
    _record(tx, "break_glass.requested", glass, f"{operator} asks to break the glass: {reason}",
            Severity.WARNING, reason=reason)  # fmt: skip
    return glass


def approve(tx: Tx, operator: str | None, glass_id: str) -> Glass:
    """Break the glass for another: they hold its rights for 30 minutes from now.

    Raises:
        NotFoundError: no such request.
        OwnRightsError: the requester approves.
        ConflictError: approved, ended or lapsed already.
    """
    glass = get(tx, glass_id)
    approver = _another(glass, operator, "approve")
    _check_state(tx, glass, GlassState.REQUESTED)
    approved = replace(glass, approver=approver, approved_at=tx.now)
    sequence = _record(
        tx,
        "break_glass.approved",
        glass,
        f"The glass is broken: {glass.requester} holds every emergency right until "
        f"{render_time(approved.expires_at)}, approved by {approver}. Reason: {glass.reason}",
        Severity.CRITICAL,
        reason=glass.reason,
        approver=approver,
        expires_at=render_time(approved.expires_at),
    )
    values = {"approver": approver, "approved_at": tx.now, "first_entry": sequence}
    if not store.breakglass.update(tx, glass, unless_set="approved_at", **values):
        raise _moved(glass)
    return replace(approved, first_entry=sequence)


def end(tx: Tx, glass_id: str) -> Glass:
    """End an emergency early, or take back a request. Whoever may ask for one may end any.

    Raises:
        NotFoundError: no such emergency.
        ConflictError: it is over already.
    """
    glass = get(tx, glass_id)
    _check_state(tx, glass, GlassState.REQUESTED, GlassState.ACTIVE)
    return _end(tx, glass, tx.actor.removeprefix("operator:"))


def has_expired(tx: Tx) -> bool:
    """Whether `end_expired` would record any."""
    return bool(store.breakglass.list_expired(tx))


def end_expired(tx: Tx) -> int:
    """Record the end of those whose half hour is over; return how many. The rights ended with the hour."""
    expired = store.breakglass.list_expired(tx)
    for glass in expired:
        _end(tx, glass, "system")
    return len(expired)


def review(tx: Tx, operator: str | None, glass_id: str, findings: str) -> Glass:
    """Record what another found of an emergency; the requester may act again.

    Raises:
        NotFoundError: no such emergency.
        OwnRightsError: the requester reviews.
        ConflictError: it is not over, or reviewed already.
    """
    glass = get(tx, glass_id)
    reviewer = _another(glass, operator, "review")
    _check_state(tx, glass, GlassState.ENDED)
    values = {"reviewer": reviewer, "reviewed_at": tx.now, "findings": findings}
    if not store.breakglass.update(tx, glass, unless_set="reviewed_at", **values):
        raise _moved(glass)
    _record(tx, "break_glass.reviewed", glass, f"{reviewer} reviewed what {glass.requester} did: {findings}",
            Severity.NOTICE, findings=findings, reviewer=reviewer)  # fmt: skip
    return replace(glass, reviewer=reviewer, reviewed_at=tx.now, findings=findings)


def get(tx: Tx, glass_id: str) -> Glass:
    """Return an emergency. Raises NotFoundError."""
    found = store.breakglass.find(tx, glass_id)
    if found is None:
        raise NotFoundError(f"break-glass {glass_id[:64]}: expected one that was asked for, found none")
    return found


def list_glasses(tx: Tx) -> list[Glass]:
    """Return the last emergencies, newest first."""
    return store.breakglass.list_all(tx, limit=_MAX_LISTED)


def list_acts(tx: Tx, glass_id: str) -> list[Entry]:
    """Return what the requester did between approval and end, from the audit log. Raises NotFoundError."""
    glass = get(tx, glass_id)
    if glass.first_entry is None:
        return []
    until = glass.ended_at or glass.expires_at
    found = audit.search(tx, after=glass.first_entry, limit=_MAX_ACTS, actor=actor_of(glass.requester))
    return [entry for entry, _ in found if entry.at <= until]


def _end(tx: Tx, glass: Glass, by: str) -> Glass:
    if not store.breakglass.update(tx, glass, unless_set="ended_at", ended_at=tx.now, ended_by=by):
        raise _moved(glass)
    message = f"The emergency of {glass.requester} is over; another person must review it now."
    if glass.approved_at is None:
        message = f"The request of {glass.requester} to break the glass was taken back."
    _record(tx, "break_glass.ended", glass, message, Severity.WARNING, ended_by=by)
    return replace(glass, ended_at=tx.now, ended_by=by)


def _another(glass: Glass, operator: str | None, verb: str) -> str:
    if operator is None or operator == glass.requester:
        raise OwnRightsError(
            f"break-glass {glass.id}: expected another person to {verb} it, found {operator or 'no person'}"
        )
    return operator


def _check_state(tx: Tx, glass: Glass, *expected: GlassState) -> None:
    state = glass.state_at(tx.now)
    if state not in expected:
        raise ConflictError(
            f"break-glass {glass.id}: expected it {' or '.join(expected)}, found it {state}",
            state=state.value,
        )


def _moved(glass: Glass) -> ConflictError:
    return ConflictError(f"break-glass {glass.id}: expected it as read, found it changed meanwhile")


def _record(tx: Tx, action: str, glass: Glass, message: str, severity: Severity, **facts: str) -> int:
    sequence = journal.record(tx, action, f"operator:{glass.requester}", break_glass=glass.id, **facts)
    emit(tx, action, message, severity=severity, break_glass=glass.id, operator=glass.requester, **facts)
    return sequence
