"""Server-sent events: the one way in which all our live streams speak.

- Whoever reads is asked for anew every `READMIT_EVERY_S`; the stream ends when they may no longer read.
- A silent stream says every `KEEPALIVE_S` that it is there, and up to which id its reader has seen all.
- Nobody holds more than `web.MAX_STREAMS` at once in a process: the next is refused, by the limit's name.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from fleetward.base.errors import FleetwardError, RateLimitedError
from fleetward.base.web import Principal, edge_of, readmit, render_error

READMIT_EVERY_S = 10.0
KEEPALIVE_S = 10.0


@dataclass
class Reader:
    """Who reads a stream, and how far they have come.

    Attributes:
        principal: as they were last admitted; their groups may change while they read.
        cursor: the id up to which they have seen all that is theirs; None where items have no ids.
    """

    principal: Principal
    cursor: int | None = None


class LiveStream(StreamingResponse):
    """A stream of `frames`: whole pieces of the protocol, see `frame`.

    Args:
        permission: what the reader must hold, then and later.
        frames: the source; it ends the stream by ending, and is closed with it.
        greeting: a comment to begin with, where something must be said at once.
    """

    def __init__(
        self,
        request: Request,
        permission: str,
        reader: Reader,
        frames: Callable[[], AsyncGenerator[bytes, None]],
        *,
        greeting: str = "",
    ) -> None:
        self._request = request
        self._permission = permission
        self._reader = reader
        self._frames = frames
        self._greeting = greeting
        self._following = self._follow()
        headers = {"Cache-Control": "no-store"}
        super().__init__(self._following, media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams, actor = edge_of(self._request).streams, self._reader.principal.actor
        try:
            streams.enter(actor)
        except RateLimitedError as error:
            await render_error(error)(scope, receive, send)
            return
        try:
            await super().__call__(scope, receive, send)
        finally:
            streams.leave(actor)
            await asyncio.shield(self._following.aclose())

    async def _follow(self) -> AsyncGenerator[bytes, None]:
        if self._greeting:
            yield f": {self._greeting}\n\n".encode()
        frames = self._frames()
        coming: asyncio.Future[bytes] | None = None
        admitted_at = spoke_at = time.monotonic()
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(frames))
                wait_s = max(0.0, admitted_at + READMIT_EVERY_S - time.monotonic())
                done, _ = await asyncio.wait({coming}, timeout=wait_s)
                now = time.monotonic()
                if now - admitted_at >= READMIT_EVERY_S:
                    self._reader.principal = await readmit(self._request, self._permission)
                    admitted_at = now
                if done:
                    frame, coming, spoke_at = coming.result(), None, now
                    yield frame
                elif now - spoke_at >= KEEPALIVE_S:
                    spoke_at = now
                    yield self._keepalive()
        except (StopAsyncIteration, FleetwardError):
            return
        finally:
            # Shielded: whoever hangs up cancels us again at each await.
            await asyncio.shield(_close(frames, coming))

    def _keepalive(self) -> bytes:
        """Return a comment; with the reader's cursor, so that a new line begins there."""
        cursor = self._reader.cursor
        return b": still here\n\n" if cursor is None else f": still here\nid: {cursor}\n\n".encode()


async def _close(frames: AsyncGenerator[bytes, None], coming: "asyncio.Future[bytes] | None") -> None:
    if coming is not None:
        coming.cancel()
        await asyncio.wait({coming})
    await frames.aclose()


def frame(content: str, *, number: int | None = None) -> bytes:
    """Return one item; `content` has no line breaks, as JSON has none."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}data: {content}\n\n".encode()
