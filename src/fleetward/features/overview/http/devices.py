"""Routes about devices: why, firmware, and acting on many."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Self

from fastapi import APIRouter, Request
from pydantic import Field, model_validator

from fleetward.base.body import Body
from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.web import Db, Principal, edge_of, requires
from fleetward.features.devices.model import Selection
from fleetward.features.messaging.http import CommandBody, MessagingContext
from fleetward.features.overview.model.bulk import (
    APPLY_PERMISSION_OF,
    MAX_DEVICES,
    PERMISSION_OF,
    BulkAction,
    Plan,
)
from fleetward.features.overview.model.filters import check_filter, select
from fleetward.features.overview.model.firmware import UpdateReport
from fleetward.features.overview.model.situation import Answer, Question
from fleetward.features.overview.service import bulk
from fleetward.features.overview.service.bulk import BulkCommand, BulkRequest
from fleetward.features.overview.service.why import describe_device_firmware, explain_device
from fleetward.features.updates.model import Release, ReleaseState

router = APIRouter()
_SHOWN = 200


@dataclass(frozen=True)
class FactView:
    what: str
    value: str
    good: bool


@dataclass(frozen=True)
class AnswerView:
    """One question: `good` when nothing needs mending, `code` names the cause for machines."""

    question: Question
    good: bool
    code: str
    answer: str
    facts: list[FactView]
    fix: str
    command: str


@dataclass(frozen=True)
class WhyView:
    device: str
    questions: list[AnswerView]


@dataclass(frozen=True)
class SlotView:
    slot: str
    version: str | None


@dataclass(frozen=True)
class TrialView:
    slot: str
    version: str | None
    tries_left: int


@dataclass(frozen=True)
class ReleaseRefView:
    version: str
    state: ReleaseState
    security_counter: int
    published_at: str | None


@dataclass(frozen=True)
class UpdateReportView:
    state: str
    version: str | None
    progress: int | None
    error: str
    at: str | None


@dataclass(frozen=True)
class ToldView:
    at: str
    kind: str
    severity: str
    message: str


@dataclass(frozen=True)
class FirmwareView:
    """Where a device stands with its firmware. Slots and report are the device's own word."""

    device: str
    running: str | None
    proven: bool
    active: SlotView | None
    inactive: SlotView | None
    trial: TrialView | None
    current_release: ReleaseRefView | None
    wanted_release: ReleaseRefView | None
    last_report: UpdateReportView | None
    history: list[ToldView]


@dataclass(frozen=True)
class SkippedView:
    id: str
    why: str


@dataclass(frozen=True)
class BulkView:
    """What a bulk action comes to, or came to. Of the skipped and changed, the first 200 are named."""

    action: BulkAction
    applied: bool
    matching: int
    will_change: int
    devices: list[str]
    skipped_count: int
    skipped: list[SkippedView]


class BulkBody(Body):
    """Which devices, by `filter` (parameters of GET /devices) or `ids`; `expected` guards an `apply`."""

    action: BulkAction = Field(strict=False)
    filter: dict[str, str] | None = None
    ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MAX_DEVICES)] | None = None
    reason: str = Field(default="by an operator", min_length=1, max_length=200)
    command: CommandBody | None = None
    apply: bool = False
    expected: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _names_devices_once(self) -> Self:
        if (self.filter is None) == (self.ids is None):
            raise ValueError("expected either filter or ids")
        if (self.command is None) == (self.action is BulkAction.COMMAND):
            raise ValueError("expected a command for the action command, and for no other")
        return self


@router.get("/devices/{device_id}/why")
def get_why(
    request: Request, db: Db, device_id: str, _principal: Annotated[Principal, requires("device.read")]
) -> WhyView:
    """Answer from facts why a device is connected, denied or offline, does not update, has no video."""
    context: MessagingContext = request.app.state.messaging
    presence = context.presence.find_presence(device_id)
    with db.read() as tx:
        answers = explain_device(tx, device_id, presence)
    return WhyView(device_id, [_view_answer(one) for one in answers])


@router.get("/devices/{device_id}/firmware")
def get_firmware(
    db: Db, device_id: str, _principal: Annotated[Principal, requires("device.read")]
) -> FirmwareView:
    with db.read() as tx:
        status, told = describe_device_firmware(tx, device_id)
    return FirmwareView(
        device=device_id,
        running=status.running,
        proven=status.is_proven,
        active=SlotView(**asdict(status.active)) if status.active else None,
        inactive=SlotView(**asdict(status.inactive)) if status.inactive else None,
        trial=TrialView(**asdict(status.trial)) if status.trial else None,
        current_release=_view_release(status.current),
        wanted_release=_view_release(status.wanted),
        last_report=_view_report(status.report),
        history=[ToldView(render_time(one.at), one.kind, one.severity.value, one.message) for one in told],
    )


@router.post("/devices/bulk")
def act_on_many(
    request: Request, db: Db, body: BulkBody, principal: Annotated[Principal, requires("device.read")]
) -> BulkView:
    """Show what an action on many devices would change; with `apply`, do it.

    Asks for the permission that the action asks for on one device; to revoke, for two factors given just now.
    """
    needed = (APPLY_PERMISSION_OF if body.apply else PERMISSION_OF)[body.action]
    actor = edge_of(request).authenticator.authorize(request, needed)
    target: Selection | Sequence[str] = body.ids or []
    if body.filter is not None:
        target = select(check_filter(body.filter), None)
    wanted = BulkRequest(
        action=body.action,
        target=target,
        reason=body.reason,
        visible=principal.groups,
        groups=actor.groups,
        command=BulkCommand(**body.command.model_dump()) if body.command else None,
    )
    if body.apply:
        return _view_plan(bulk.apply(db, actor.actor, wanted, expected=body.expected), is_applied=True)
    with db.read(principal.actor) as tx:
        return _view_plan(bulk.plan(tx, wanted), is_applied=False)


def _view_answer(answer: Answer) -> AnswerView:
    return AnswerView(
        question=answer.question,
        good=answer.good,
        code=answer.code,
        answer=answer.answer,
        facts=[FactView(**asdict(fact)) for fact in answer.facts],
        fix=answer.fix,
        command=answer.command,
    )


def _view_plan(plan: Plan, *, is_applied: bool) -> BulkView:
    return BulkView(
        action=plan.action,
        applied=is_applied,
        matching=plan.matching,
        will_change=len(plan.will_change),
        devices=list(plan.will_change[:_SHOWN]),
        skipped_count=len(plan.skipped),
        skipped=[SkippedView(one.id, one.why) for one in plan.skipped[:_SHOWN]],
    )


def _view_report(report: UpdateReport | None) -> UpdateReportView | None:
    if report is None:
        return None
    return UpdateReportView(
        report.state, report.version, report.progress, report.error, render_time_or_none(report.at)
    )


def _view_release(release: Release | None) -> ReleaseRefView | None:
    if release is None:
        return None
    return ReleaseRefView(
        release.version, release.state, release.security_counter, render_time_or_none(release.published_at)
    )
