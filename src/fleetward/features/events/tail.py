"""One reader of the feed for all live streams of a process.

It looks for new events once for everybody, when this process has written and four times a second. Each stream
has a bounded queue. A stream that begins, or whose reader was too slow for its queue, reads on from the
database by itself until it is where the others are: it misses nothing, and slows nobody.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from fleetward.base.db import Database
from fleetward.base.errors import FleetwardError
from fleetward.base.events import Event, find_last_event_id
from fleetward.base.logging import get_logger
from fleetward.base.sse import Reader, frame
from fleetward.features.events.service import Page, Placed, read_page, read_placed

log = get_logger("events")

MAX_UNREAD = 1000
_POLL_S = 0.25
_PAUSE_AFTER_ERROR_S = 1.0
_PAGE = 500


class Tail:
    """The end of the feed. Belongs to the event loop on which streams are open; idle while there are none."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._streams: set[_Stream] = set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self.position = 0
        db.on_write(self._on_write)

    async def follow(self, reader: Reader, device: str | None) -> AsyncGenerator[bytes, None]:
        """Yield what the reader may see after their cursor, as it happens; ends when the feed is not read."""
        stream = _Stream(reader, device)
        await self._enter(stream)
        try:
            while True:
                if stream.is_behind:
                    stream.begin(self.position)
                    async for found in self._catch_up(stream):
                        yield found
                while stream.queue and not stream.is_behind:
                    number, content = stream.queue.popleft()
                    if number > stream.cursor:
                        stream.cursor = number
                        yield content
                if not stream.is_behind and not stream.queue and not await stream.wait(self.position):
                    return
        finally:
            self._leave(stream)

    async def _catch_up(self, stream: "_Stream") -> AsyncGenerator[bytes, None]:
        """Yield what happened until the stream's queue began to be filled."""
        while stream.cursor < stream.begins_at and not stream.is_behind:
            page = await run_in_threadpool(self._read_page, stream)
            for event in page.events:
                stream.cursor = event.id
                yield _render(event)
            stream.advance(max(page.cursor, stream.begins_at) if page.is_last else page.cursor)

    async def _enter(self, stream: "_Stream") -> None:
        """Have the end of the feed read for this stream too."""
        if self._task is None or self._task.done():
            self._loop = asyncio.get_running_loop()
            self._wake = asyncio.Event()
            position = await run_in_threadpool(self._read_last_id)
            if self._task is None or self._task.done():  # another stream may have been quicker, and be ahead
                self.position = position
                self._task = asyncio.create_task(self._run(), name="events-tail")
        self._streams.add(stream)

    def _leave(self, stream: "_Stream") -> None:
        self._streams.discard(stream)
        if not self._streams and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                try:
                    found = await run_in_threadpool(self._read_new)
                except FleetwardError as error:
                    log.warning("tail_retry", code=error.code)
                    await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
                    continue
                self._hand_out(found)
                if len(found) < _PAGE:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_POLL_S):
                            await self._wake.wait()
        finally:
            for stream in self._streams:
                stream.end()

    def _hand_out(self, found: list[Placed]) -> None:
        for event, group in found:
            content: bytes | None = None
            for stream in self._streams:
                if stream.may_see(event, group):
                    content = content or _render(event)
                    stream.offer(event.id, content)
        if found:
            self.position = found[-1][0].id
            for stream in self._streams:
                if stream.is_waiting and not stream.queue:
                    stream.advance(self.position)

    def _read_new(self) -> list[Placed]:
        with self._db.read() as tx:
            return read_placed(tx, after=self.position, limit=_PAGE)

    def _read_last_id(self) -> int:
        with self._db.read() as tx:
            return find_last_event_id(tx)

    def _read_page(self, stream: "_Stream") -> Page:
        groups = stream.reader.principal.groups
        with self._db.read() as tx:
            return read_page(tx, after=stream.cursor, limit=_PAGE, device=stream.device, groups=groups)

    def _on_write(self) -> None:
        loop = self._loop
        if loop is not None and self._streams and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)


class _Stream:
    """One open stream: its queue begins after `begins_at`, what is before it reads by itself."""

    def __init__(self, reader: Reader, device: str | None) -> None:
        self.reader = reader
        self.device = device
        self.cursor = reader.cursor or 0
        self.begins_at = 0
        self.is_behind = True
        self.is_waiting = False
        self.queue: deque[tuple[int, bytes]] = deque()
        self._changed = asyncio.Event()
        self._is_ended = False

    def begin(self, position: int) -> None:
        """Fill the queue from here on."""
        self.queue.clear()
        self.begins_at = position
        self.is_behind = False

    def may_see(self, event: Event, group: str | None) -> bool:
        """Whether an event is theirs, by the group its device is in now."""
        groups = self.reader.principal.groups
        return (self.device is None or event.device == self.device) and (groups is None or group in groups)

    def offer(self, number: int, content: bytes) -> None:
        """Put an event into the queue; a full one is thrown away, for the reader is too slow for it."""
        if self.is_behind:
            return
        if len(self.queue) >= MAX_UNREAD:
            self.queue.clear()
            self.is_behind = True
        else:
            self.queue.append((number, content))
        self._changed.set()

    async def wait(self, position: int) -> bool:
        """Return when there is something to do; False when nobody reads the end of the feed any more."""
        self._changed.clear()
        self.advance(position)
        self.is_waiting = True
        try:
            await self._changed.wait()
        finally:
            self.is_waiting = False
        return not self._is_ended

    def advance(self, position: int) -> None:
        """Note that all up to here that is theirs was handed to them."""
        self.cursor = max(self.cursor, position)
        self.reader.cursor = self.cursor

    def end(self) -> None:
        self._is_ended = True
        self._changed.set()


def _render(event: Event) -> bytes:
    return frame(json.dumps(event.as_json()), number=event.id)
