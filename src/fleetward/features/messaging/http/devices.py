"""Operator routes: what devices send and are, what is desired of them, commands."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from fleetward.base.body import Body
from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.ids import parse_id
from fleetward.base.sse import LiveStream, Reader, frame
from fleetward.base.web import Db, Principal, answers_with, requires
from fleetward.features.devices import service as devices
from fleetward.features.messaging import service
from fleetward.features.messaging.http.context import MessagingContext
from fleetward.features.messaging.model import Asked, CommandRecord, CommandState, Presence, Shadow
from fleetward.features.messaging.ports import Watcher
from fleetward.wire.command import MAX_TIMEOUT_S
from fleetward.wire.shadow import shadow_delta

router = APIRouter(tags=["messaging"])
_MAX_RECORDS = 1000


@dataclass(frozen=True)
class RecordView:
    time: str
    device_time: str | None
    kind: str
    stream: str
    value: Any


@dataclass(frozen=True)
class TelemetryPage:
    """The last records, oldest first."""

    device: str
    records: list[RecordView]


@dataclass(frozen=True)
class ShadowView:
    """Both sides of a shadow; `delta` is what is desired and not reported so."""

    device: str
    desired: dict[str, Any]
    desired_version: int
    desired_at: str | None
    reported: dict[str, Any]
    reported_version: int
    reported_at: str | None
    acknowledged_version: int
    delta: dict[str, Any]


@dataclass(frozen=True)
class CommandView:
    id: int
    device: str
    name: str
    args: dict[str, Any]
    state: CommandState
    actor: str
    created_at: str
    expires_at: str
    attempts: int
    finished_at: str | None
    result: Any
    error: str | None


@dataclass(frozen=True)
class PresenceView:
    device: str
    connected: bool
    since: str | None
    address: str | None
    reason: str | None


@dataclass(frozen=True)
class GateView:
    """One gate.

    Attributes:
        gate: its name; `title` says what is true while it is open.
        code: why it is closed.
        closes_at: when an open one closes by itself.
    """

    gate: str
    title: str
    is_open: bool
    code: str | None
    finding: str
    fix: str | None
    command: str | None
    closes_at: str | None


@dataclass(frozen=True)
class HoldView:
    name: str
    reason: str
    since: str


@dataclass(frozen=True)
class DeviceSessionView:
    """Whether a device may hold a session now, gate by gate, in the order they are asked.

    Attributes:
        code: of the first closed gate; `closes_at`: when the first open one closes.
    """

    device: str
    may_connect: bool
    code: str | None
    closes_at: str | None
    gates: list[GateView]
    holds: list[HoldView]


class DesiredBody(Body):
    """What is to be desired; `expected_version` guards against overwriting another's change."""

    state: dict[str, Any]
    expected_version: int | None = Field(default=None, ge=0)


class CommandBody(Body):
    name: str = Field(min_length=1, max_length=32)
    args: dict[str, Any] = Field(default_factory=dict)
    timeout_s: int = Field(default=30, ge=1, le=MAX_TIMEOUT_S)


@router.get("/devices/{device_id}/telemetry")
def read_telemetry(
    request: Request,
    db: Db,
    device_id: str,
    _principal: Annotated[Principal, requires("telemetry.read")],
    stream: str = "",
    kind: Literal["telemetry", "log", "metrics"] = "telemetry",
    limit: Annotated[int, Query(ge=1, le=_MAX_RECORDS)] = 100,
) -> TelemetryPage:
    """Return the last records of a device: of one telemetry stream, of all, or its log or metrics."""
    if stream:
        parse_id(stream, what="telemetry stream")
    with db.read() as tx:
        devices.get_device(tx, device_id)
    found = _context(request).telemetry.read_last(device_id, kind, stream, limit)
    views = [RecordView(one.time, one.device_time, one.kind, one.stream, one.value) for one in found]
    return TelemetryPage(device_id, views)


@router.get("/devices/{device_id}/shadow")
def get_shadow(
    db: Db, device_id: str, _principal: Annotated[Principal, requires("shadow.read")]
) -> ShadowView:
    with db.read() as tx:
        return _view_shadow(service.get_shadow(tx, device_id))


@router.put("/devices/{device_id}/shadow/desired")
def set_desired(
    db: Db, device_id: str, body: DesiredBody, principal: Annotated[Principal, requires("shadow.write")]
) -> ShadowView:
    with db.write(principal.actor) as tx:
        return _view_shadow(
            service.set_desired(tx, device_id, body.state, expected_version=body.expected_version)
        )


@router.post("/devices/{device_id}/commands", status_code=201)
def queue_command(
    db: Db, device_id: str, body: CommandBody, principal: Annotated[Principal, requires("command.run")]
) -> CommandView:
    with db.write(principal.actor) as tx:
        return _view_command(service.queue_command(tx, device_id, body.name, body.args, body.timeout_s))


@router.get("/devices/{device_id}/commands")
def list_commands(
    db: Db,
    device_id: str,
    _principal: Annotated[Principal, requires("command.read")],
    limit: Annotated[int, Query(ge=1, le=_MAX_RECORDS)] = 100,
) -> list[CommandView]:
    """Return the device's last commands, newest first."""
    with db.read() as tx:
        return [_view_command(one) for one in service.list_commands(tx, device_id, limit=limit)]


@router.get("/devices/{device_id}/commands/{number}")
def get_command(
    db: Db, device_id: str, number: int, _principal: Annotated[Principal, requires("command.read")]
) -> CommandView:
    with db.read() as tx:
        return _view_command(service.get_command(tx, device_id, number))


@router.get("/devices/{device_id}/presence")
def get_presence(
    request: Request, db: Db, device_id: str, _principal: Annotated[Principal, requires("device.read")]
) -> PresenceView:
    with db.read() as tx:
        devices.get_device(tx, device_id)
    return _view_presence(_context(request).presence.find_presence(device_id) or Presence(device_id))


@router.get("/devices/{device_id}/session")
def get_session(
    db: Db, device_id: str, _principal: Annotated[Principal, requires("device.read")]
) -> DeviceSessionView:
    """Say whether a device may hold a session now, and what each gate found."""
    with db.read() as tx:
        asked = service.ask_gates(tx, device_id)
        holds = service.list_holds(tx, device_id)
    closed = next((one.refusal for one in asked if one.refusal is not None), None)
    ends = [one.closes_at for one in asked if one.closes_at is not None]
    return DeviceSessionView(
        device=device_id,
        may_connect=closed is None,
        code=None if closed is None else closed.code,
        closes_at=render_time_or_none(min(ends, default=None) if closed is None else None),
        gates=[_view_gate(one) for one in asked],
        holds=[HoldView(one.name, one.reason, render_time(one.since)) for one in holds],
    )


@router.get(
    "/devices/{device_id}/watch",
    response_class=StreamingResponse,
    responses=answers_with("text/event-stream"),
)
def watch(
    request: Request, db: Db, device_id: str, principal: Annotated[Principal, requires("telemetry.read")]
) -> StreamingResponse:
    """Stream what the device does from now on, one JSON object each, as server-sent events."""
    with db.read() as tx:
        devices.get_device(tx, device_id)
    watcher = _context(request).watcher
    return LiveStream(
        request,
        "telemetry.read",
        Reader(principal),
        lambda: _frames(watcher, device_id),
        greeting="watching",
    )


async def _frames(watcher: Watcher, device_id: str) -> AsyncGenerator[bytes, None]:
    async with aclosing(watcher.watch(device_id)) as items:
        async for item in items:
            yield frame(json.dumps(asdict(item), default=str))


def _context(request: Request) -> MessagingContext:
    context: MessagingContext = request.app.state.messaging
    return context


def _view_shadow(shadow: Shadow) -> ShadowView:
    return ShadowView(
        device=shadow.device,
        desired=shadow.desired,
        desired_version=shadow.desired_version,
        desired_at=render_time_or_none(shadow.desired_at),
        reported=shadow.reported,
        reported_version=shadow.reported_version,
        reported_at=render_time_or_none(shadow.reported_at),
        acknowledged_version=shadow.acknowledged_version,
        delta=shadow_delta(shadow.desired, shadow.reported),
    )


def _view_command(command: CommandRecord) -> CommandView:
    return CommandView(
        id=command.id,
        device=command.device,
        name=command.name,
        args=command.args,
        state=command.state,
        actor=command.actor,
        created_at=render_time(command.created_at),
        expires_at=render_time(command.expires_at),
        attempts=command.attempts,
        finished_at=render_time_or_none(command.finished_at),
        result=command.result and command.result.output,
        error=(command.result.error or None) if command.result else None,
    )


def _view_gate(asked: Asked) -> GateView:
    refusal = asked.refusal
    return GateView(
        gate=asked.gate.name,
        title=asked.gate.title,
        is_open=refusal is None,
        code=None if refusal is None else refusal.code,
        finding=asked.finding,
        fix=(refusal.fix or None) if refusal else None,
        command=(refusal.command or None) if refusal else None,
        closes_at=render_time_or_none(asked.closes_at),
    )


def _view_presence(presence: Presence) -> PresenceView:
    return PresenceView(
        device=presence.device,
        connected=presence.is_connected,
        since=presence.since or None,
        address=presence.address or None,
        reason=presence.reason or None,
    )
