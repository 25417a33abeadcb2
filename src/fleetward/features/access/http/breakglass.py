"""Operator routes of break-glass."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from fleetward.base.body import Body
from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.web import Db, Principal, requires
from fleetward.features.access.model.breakglass import Glass, GlassState
from fleetward.features.access.service import breakglass

router = APIRouter(tags=["break-glass"], prefix="/break-glass")


class BreakGlassBody(Body):
    reason: str = Field(min_length=10, max_length=500)


class FindingsBody(Body):
    several_lines = frozenset({"findings"})

    findings: str = Field(min_length=10, max_length=4000)


@dataclass(frozen=True)
class BreakGlassView:
    """An emergency. `expires_at`: when its rights end, or, before the approval, when the request lapses."""

    id: str
    state: GlassState
    requester: str
    reason: str
    requested_at: str
    expires_at: str
    approver: str | None
    approved_at: str | None
    ended_at: str | None
    ended_by: str | None
    reviewer: str | None
    reviewed_at: str | None
    findings: str


@dataclass(frozen=True)
class ActView:
    """One audit entry of what was done with it."""

    sequence: int
    time: str
    action: str
    subject: str
    details: dict[str, Any]


@router.post("", status_code=201)
def request_break_glass(
    db: Db, body: BreakGlassBody, principal: Annotated[Principal, requires("break_glass.request")]
) -> BreakGlassView:
    """Ask another person for every emergency right, for 30 minutes."""
    with db.write(principal.actor) as tx:
        return _view(breakglass.request(tx, principal.operator, body.reason), tx.now)


@router.get("")
def list_break_glass(
    db: Db, _principal: Annotated[Principal, requires("break_glass.read")]
) -> list[BreakGlassView]:
    with db.read() as tx:
        return [_view(one, tx.now) for one in breakglass.list_glasses(tx)]


@router.post("/{glass_id}/approve")
def approve_break_glass(
    db: Db, glass_id: str, principal: Annotated[Principal, requires("break_glass.approve")]
) -> BreakGlassView:
    """Break the glass for who asked; never for yourself."""
    with db.write(principal.actor) as tx:
        return _view(breakglass.approve(tx, principal.operator, glass_id), tx.now)


@router.post("/{glass_id}/end")
def end_break_glass(
    db: Db, glass_id: str, principal: Annotated[Principal, requires("break_glass.end")]
) -> BreakGlassView:
    """End it before its time, or take back a request."""
    with db.write(principal.actor) as tx:
        return _view(breakglass.end(tx, glass_id), tx.now)


@router.post("/{glass_id}/review")
def review_break_glass(
    db: Db,
    glass_id: str,
    body: FindingsBody,
    principal: Annotated[Principal, requires("break_glass.review")],
) -> BreakGlassView:
    """Say what you found of another's emergency, so that they may act again."""
    with db.write(principal.actor) as tx:
        return _view(breakglass.review(tx, principal.operator, glass_id, body.findings), tx.now)


@router.get("/{glass_id}/acts")
def list_acts(
    db: Db, glass_id: str, _principal: Annotated[Principal, requires("audit.read")]
) -> list[ActView]:
    """Return what was done with it, from the audit log: what a review is about."""
    with db.read() as tx:
        return [
            ActView(one.sequence, render_time(one.at), one.action, one.subject, one.details)
            for one in breakglass.list_acts(tx, glass_id)
        ]


def _view(glass: Glass, now: datetime) -> BreakGlassView:
    return BreakGlassView(
        id=glass.id,
        state=glass.state_at(now),
        requester=glass.requester,
        reason=glass.reason,
        requested_at=render_time(glass.requested_at),
        expires_at=render_time(glass.expires_at),
        approver=glass.approver,
        approved_at=render_time_or_none(glass.approved_at),
        ended_at=render_time_or_none(glass.ended_at),
        ended_by=glass.ended_by,
        reviewer=glass.reviewer,
        reviewed_at=render_time_or_none(glass.reviewed_at),
        findings=glass.findings,
    )
