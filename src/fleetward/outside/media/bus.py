"""The relay's bus on core NATS: `media.<device>.pieces` and `.attendance`, `fleet.session.ended.<device>`.

A segment goes in pieces, for no message may be much larger than a device's: each begins with the kind of its
segment and whether it is the first and the last of it. NATS keeps the order of one publisher.

Nothing is stored: who is not there misses it, and who is too slow is ended, never waited for.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from fleetward.base.errors import InvalidInputError
from fleetward.base.logging import get_logger
from fleetward.features.media.ports import OnAttendance
from fleetward.wire.fmp4 import Kind, Segment
from fleetward.wire.media import Attendance, parse_attendance, render

log = get_logger("media")

# Two seconds at 15 frames a second, a segment each.
_MAX_WAITING = 30
_PIECE_BYTES = 64 * 1024
_FIRST, _LAST = 1, 2
ENDED_SUBJECT = "fleet.session.ended"


class Pieces:
    """Puts segments together again. Who comes in the middle of one begins with the next."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, piece: bytes) -> Segment | None:
        """Return the segment that a piece completes, None where it completes none."""
        kind, place, content = piece[:1], piece[1], piece[2:]
        if place & _FIRST:
            self._parts = [content]
        elif self._parts:
            self._parts.append(content)
        if not place & _LAST or not self._parts:
            return None
        parts, self._parts = self._parts, []
        return Segment(Kind(kind), b"".join(parts))


class NatsMediaBus:
    """Implements `MediaBus` over one connection."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def publish(self, device_id: str, segment: Segment) -> None:
        content = segment.content
        for start in range(0, max(len(content), 1), _PIECE_BYTES):
            end = start + _PIECE_BYTES
            place = (_FIRST if start == 0 else 0) | (_LAST if end >= len(content) else 0)
            piece = segment.kind.value + bytes([place]) + content[start:end]
            await self._client.publish(f"media.{device_id}.pieces", piece)

    @asynccontextmanager
    async def watch(self, device_id: str) -> AsyncIterator[AsyncIterator[Segment]]:
        waiting: asyncio.Queue[Segment | None] = asyncio.Queue()
        pieces = Pieces()

        async def receive(message: Msg) -> None:
            segment = pieces.add(message.data)
            if segment is None:
                return
            if waiting.qsize() < _MAX_WAITING:
                waiting.put_nowait(segment)
            elif waiting.qsize() == _MAX_WAITING:
                waiting.put_nowait(None)

        subscription = await self._client.subscribe(f"media.{device_id}.pieces", cb=receive)
        try:
            yield _drain(waiting)
        finally:
            await subscription.unsubscribe()

    @asynccontextmanager
    async def attend(self, device_id: str, handler: OnAttendance) -> AsyncIterator[None]:
        running: set[asyncio.Task[None]] = set()

        async def answer(message: Msg) -> None:
            try:
                found = await handler(parse_attendance(message.data))
            except InvalidInputError as error:
                log.warning("attendance_unreadable", reason=error.message)
                return
            if message.reply:
                await message.respond(found or b"")

        async def receive(message: Msg) -> None:
            task = asyncio.create_task(
                answer(message)
            )  # one that waits for the camera must not hold up others
            running.add(task)
            task.add_done_callback(running.discard)

        subscription = await self._client.subscribe(f"media.{device_id}.attendance", cb=receive)
        try:
            yield
        finally:
            await subscription.unsubscribe()
            for task in running:
                task.cancel()

    async def join(self, device_id: str, viewer: str, timeout_s: float) -> bytes | None:
        content = render(Attendance("join", viewer))
        try:
            answer = await self._client.request(f"media.{device_id}.attendance", content, timeout=timeout_s)
        except (NoRespondersError, NatsTimeoutError):
            return None
        return answer.data or None

    async def tell(self, device_id: str, attendance: Attendance) -> None:
        await self._client.publish(f"media.{device_id}.attendance", render(attendance))

    @asynccontextmanager
    async def until_ended(self, device_id: str, serial: int | None = None) -> AsyncIterator[Awaitable[str]]:
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def receive(message: Msg) -> None:
            reason = _reason_of(message.data, serial)
            if reason is not None and not ended.done():
                ended.set_result(reason)

        subscription = await self._client.subscribe(f"{ENDED_SUBJECT}.{device_id}", cb=receive)
        try:
            yield ended
        finally:
            await subscription.unsubscribe()


async def _drain(waiting: "asyncio.Queue[Segment | None]") -> AsyncIterator[Segment]:
    while (segment := await waiting.get()) is not None:
        yield segment


def _reason_of(content: bytes, serial: int | None) -> str | None:
    """Return why a session ended, None where it did so for other certificates than `serial` alone.

    The message is our own, and only its text is shown.
    """
    try:
        told = json.loads(content)
        serials, reason = told.get("serials"), str(told["reason"])[:100]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "it was ended"
    is_ours = not serials or (serial is not None and f"{serial:x}" in serials)
    return reason if is_ours else None
