"""The relay: takes a verified camera's segments to the bus, and from the bus to its viewers.

Both ends may be in different processes. A line ends when the device's session does: at its end, or at once
when the session is ended early (`fleet.session.ended.<device>`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fleetward.base.clock import render_time
from fleetward.base.db import Database
from fleetward.base.errors import FleetwardError, InvalidInputError
from fleetward.base.limiting.repeats import Repeats
from fleetward.base.logging import get_logger
from fleetward.features.devices.peer import authenticated_device
from fleetward.features.media import service
from fleetward.features.media.model import MAX_VIEW, TicketRefusedError, View
from fleetward.features.media.ports import MediaBus
from fleetward.features.messaging import service as messaging
from fleetward.features.pki.model import DeviceCertificate
from fleetward.wire.fmp4 import Kind, Segment, Splitter, codec_of
from fleetward.wire.media import (
    CLOSE_ENDED,
    CLOSE_GONE,
    CLOSE_REFUSED,
    CLOSE_SLOW,
    Attendance,
    Order,
    ViewOpened,
    render,
)

log = get_logger("media")

_TICKET_WAIT_S = 10.0
_JOIN_WAIT_S = 10.0
_ALIVE_EVERY_S = 5.0
_FORGOTTEN_AFTER_S = 16.0
_MAX_TICKET_CHARS = 200


@dataclass(frozen=True)
class MediaContext:
    """In `app.state.media`.

    Attributes:
        console: the console's URL, without a slash at the end.
        origins: of pages that may open a view, e.g. `https://fleet.example:8443`.
    """

    db: Database
    bus: MediaBus
    console: str
    origins: frozenset[str]
    longest_view: timedelta = MAX_VIEW
    refusals: Repeats = field(default_factory=Repeats)


class _Ended(Exception):  # noqa: N818 - no error: how a line ends
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


async def receive(socket: WebSocket, media: MediaContext) -> None:
    """Serve one camera's line until its session ends or it hangs up."""
    device = None
    try:
        peer = await run_in_threadpool(authenticated_device, socket)
        device = peer.device.id
        until = await _check_session(media, peer.certificate)
    except FleetwardError as error:
        await _note_refusal(media, error, str(error.details.get("reason", error.code)), device)
        await _refuse(socket, error.code)
        return
    await socket.accept()
    camera = _Camera(socket, media.bus, device)
    try:
        async with (
            media.bus.until_ended(device, peer.certificate.serial) as ended,
            media.bus.attend(device, camera.on_attendance),
        ):
            await _race(
                camera.pump(), camera.forget_the_gone(), _end_on(ended),
                _end_with_session(media, peer.certificate, until),
            )  # fmt: skip
    except _Ended as end:
        await _close(socket, end)
    except (WebSocketDisconnect, InvalidInputError) as error:
        await _close(socket, _Ended(CLOSE_GONE, getattr(error, "message", "the camera hung up")))


async def play(socket: WebSocket, media: MediaContext) -> None:
    """Serve one viewer: ticket, description, video, until the view or the device's session ends."""
    if socket.headers.get("origin") not in media.origins:
        await _note_refusal(
            media, TicketRefusedError("viewer: expected our own page, found another"), "origin"
        )
        await _refuse(socket, "origin")
        return
    await socket.accept()
    try:
        ticket = await asyncio.wait_for(socket.receive_text(), _TICKET_WAIT_S)
        view = await run_in_threadpool(_redeem, media, ticket[:_MAX_TICKET_CHARS])
    except FleetwardError as error:
        await _note_refusal(media, error, str(error.details.get("reason", error.code)))
        await _close(socket, _Ended(CLOSE_REFUSED, error.message))
        return
    except (TimeoutError, WebSocketDisconnect, KeyError):
        await _close(socket, _Ended(CLOSE_REFUSED, "no ticket was sent"))
        return
    reason = "the viewer left"
    try:
        await _show(socket, media, view)
    except _Ended as end:
        reason = end.reason
        await _close(socket, end)
    except (WebSocketDisconnect, InvalidInputError) as error:
        reason = getattr(error, "message", reason)
        await _close(socket, _Ended(CLOSE_GONE, reason))
    finally:
        await asyncio.shield(media.bus.tell(view.device_id, Attendance("leave", view.id)))
        await asyncio.shield(run_in_threadpool(_close_view, media, view, reason))


class _Camera:
    """One camera's line: orders out, segments in, and who watches."""

    def __init__(self, socket: WebSocket, bus: MediaBus, device_id: str) -> None:
        self._socket, self._bus, self._device = socket, bus, device_id
        self._viewers: dict[str, float] = {}
        self._init: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._splitter = Splitter()

    async def pump(self) -> None:
        """Carry segments from the camera to the bus."""
        while True:
            content = await self._socket.receive_bytes()
            for segment in self._splitter.feed(content):
                if segment.kind is Kind.INIT and not self._init.done():
                    self._init.set_result(segment.content)
                await self._bus.publish(self._device, segment)

    async def on_attendance(self, attendance: Attendance) -> bytes | None:
        """Note a viewer; one that joins gets the initialisation segment, once the camera has started."""
        if attendance.state == "leave":
            self._viewers.pop(attendance.viewer, None)
            await self._stop_if_alone()
            return None
        is_first = not self._viewers
        self._viewers[attendance.viewer] = time.monotonic()
        if attendance.state == "alive":
            return None
        if is_first:
            await self._order("start")
        return await asyncio.shield(self._init)

    async def forget_the_gone(self) -> None:
        """Stop the camera when viewers vanished without a word: their process may have died."""
        while True:
            await asyncio.sleep(_ALIVE_EVERY_S)
            edge = time.monotonic() - _FORGOTTEN_AFTER_S
            gone = [viewer for viewer, seen in self._viewers.items() if seen < edge]
            for viewer in gone:
                del self._viewers[viewer]
            if gone:
                await self._stop_if_alone()

    async def _stop_if_alone(self) -> None:
        if not self._viewers and self._init.done():
            self._init = asyncio.get_running_loop().create_future()
            self._splitter = Splitter()
            await self._order("stop")

    async def _order(self, order: str) -> None:
        await self._socket.send_text(render(Order("start" if order == "start" else "stop")).decode())


async def _show(socket: WebSocket, media: MediaContext, view: View) -> None:
    async with media.bus.until_ended(view.device_id) as ended, media.bus.watch(view.device_id) as segments:
        init = await media.bus.join(view.device_id, view.id, _JOIN_WAIT_S)
        if init is None:
            raise _Ended(CLOSE_GONE, "the camera has no verified session now")
        opened = ViewOpened(view.device_id, codec_of(init), render_time(view.expires_at))
        await socket.send_text(render(opened).decode())
        await socket.send_bytes(init)
        await _race(
            _forward(socket, segments), _stay_alive(media, view), _listen(socket), _expire(media, view),
            _end_on(ended),
        )  # fmt: skip


async def _forward(socket: WebSocket, segments: AsyncIterator[Segment]) -> None:
    is_started = False
    async for segment in segments:
        is_started = is_started or segment.kind is Kind.KEY
        if is_started and segment.kind is not Kind.INIT:
            await socket.send_bytes(segment.content)
    raise _Ended(CLOSE_SLOW, "the viewer could not keep up")


async def _stay_alive(media: MediaContext, view: View) -> None:
    while True:
        await asyncio.sleep(_ALIVE_EVERY_S)
        await media.bus.tell(view.device_id, Attendance("alive", view.id))
        if await run_in_threadpool(_is_closed, media, view):
            raise _Ended(CLOSE_ENDED, "the view was closed by an operator")


async def _listen(socket: WebSocket) -> None:
    """Notice that the viewer left; nothing it says is heeded."""
    while True:
        await socket.receive_text()


async def _expire(media: MediaContext, view: View) -> None:
    await asyncio.sleep(max(0.0, (view.expires_at - media.db.clock.now()).total_seconds()))
    raise _Ended(CLOSE_ENDED, "its time was up")


async def _race(*runs: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends or raises, end the others, and raise what the first raised."""
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _end_on(ended: Awaitable[str]) -> None:
    raise _Ended(CLOSE_ENDED, f"the device's session ended: {await ended}")


async def _end_with_session(media: MediaContext, certificate: DeviceCertificate, until: datetime) -> None:
    """Wait for the session's end; a fresh appraisal meanwhile has moved it."""
    while True:
        await asyncio.sleep(max(0.0, (until - media.db.clock.now()).total_seconds()))
        try:
            until = await _check_session(media, certificate)
        except FleetwardError as error:
            raise _Ended(CLOSE_ENDED, error.message) from error


async def _check_session(media: MediaContext, certificate: DeviceCertificate) -> datetime:
    def check() -> datetime:
        with media.db.read() as tx:
            return messaging.require_session(tx, certificate.device_id, certificate).expires_at

    return await run_in_threadpool(check)


def _redeem(media: MediaContext, ticket: str) -> View:
    with media.db.write("system:media") as tx:
        return service.redeem_ticket(tx, ticket)


def _is_closed(media: MediaContext, view: View) -> bool:
    with media.db.read() as tx:
        return service.get_view(tx, view.id).closed_at is not None


def _close_view(media: MediaContext, view: View, reason: str) -> None:
    with media.db.write(view.actor) as tx:
        service.close_view(tx, view.id, reason)


async def _note_refusal(
    media: MediaContext, error: FleetwardError, reason: str, device: str | None = None
) -> None:
    repeats = media.refusals.admit(("media.refused", reason, error.message), time.monotonic())
    if repeats is None:
        return

    def note() -> None:
        with media.db.write("system:media") as tx:
            service.record_refusal(tx, device, reason, f"Video was refused: {error.message}", repeats=repeats)

    await run_in_threadpool(note)


async def _refuse(socket: WebSocket, code: str) -> None:
    """Refuse the handshake: the client gets HTTP 403."""
    log.info("media_refused", code=code)
    await socket.close(CLOSE_REFUSED)


async def _close(socket: WebSocket, end: _Ended) -> None:
    if (
        socket.application_state is WebSocketState.CONNECTED
        and socket.client_state is WebSocketState.CONNECTED
    ):
        await socket.close(end.code, end.reason[:120])
