"""What devices have sent and do now, for routes that run in other threads."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from fleetward.base.clock import Clock, render_time
from fleetward.base.errors import InvalidInputError, UnavailableError
from fleetward.features.messaging.model import Presence
from fleetward.features.messaging.ports import WatchItem
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.ingest import kept_subject
from fleetward.outside.nats.presence import PresenceMirror
from fleetward.outside.nats.streams import (
    LOGS,
    METRICS,
    PRESENCE_BUCKET,
    TELEMETRY,
    count_since,
    kv_subject,
    read_stream,
)
from fleetward.wire.bounded_json import parse_bounded_json
from fleetward.wire.mqtt_topics import ROOT
from fleetward.wire.shadow import MAX_SHADOW_BYTES
from fleetward.wire.telemetry import Record, parse_record

T = TypeVar("T")
OnMessage = Callable[[Msg], Awaitable[None]]
Stop = Callable[[], Coroutine[Any, Any, None]]
_STREAM_OF = {"telemetry": TELEMETRY, "log": LOGS, "metrics": METRICS}
# The last records are found by looking back ever further; each look costs two small requests. Where there are
# no more than a few times as many as are asked for, all are read.
_FEW = 2
_LOOK_BACK = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=2), timedelta(days=1))
_ANSWER_TIMEOUT_S = 15.0
_MAX_UNREAD = 1_000


class Archive:
    """Reads the streams; implements `TelemetryLog`, `Watcher` and `PresenceBook`."""

    def __init__(
        self, platform: NatsConnection, js: JetStreamContext, presence: PresenceMirror, clock: Clock
    ) -> None:
        self._platform = platform
        self._js = js
        self._presence = presence
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    def read_last(self, device: str, kind: str, stream: str, limit: int) -> list[Record]:
        """Return the last `limit` records, oldest first; see the port. Never call it on the event loop."""
        return self._wait(self._read_last(device, kind, stream, limit))

    def find_presence(self, device: str) -> Presence | None:
        return self._presence.find(device)

    async def watch(self, device: str) -> AsyncGenerator[WatchItem, None]:
        """Yield what the device does from now on; what a slow caller does not read in time is left out."""
        found: asyncio.Queue[WatchItem] = asyncio.Queue(_MAX_UNREAD)
        caller = asyncio.get_running_loop()

        async def on_message(message: Msg) -> None:
            item = self._item_of(message)
            if item is not None and not found.full():
                caller.call_soon_threadsafe(_put, found, item)

        stop = await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._follow(device, on_message), self._loop)
        )
        try:
            while True:
                yield await found.get()
        finally:
            asyncio.run_coroutine_threadsafe(stop(), self._loop)

    def _item_of(self, message: Msg) -> WatchItem | None:
        now = render_time(self._clock.now())
        levels = message.subject.split(".")
        if levels[0] == "$KV":
            presence = msgspec.json.decode(message.data)
            return WatchItem("presence", levels[2], now, "", presence)
        try:
            if levels[0] == ROOT:
                value = parse_bounded_json(message.data, what="shadow", max_bytes=MAX_SHADOW_BYTES)
                return WatchItem("shadow", levels[1], now, levels[3], value)
            record = parse_record(message.data)
        except InvalidInputError:
            return None  # ingest records that it was refused
        return WatchItem(record.kind, record.device, record.time, record.stream, record.value)

    async def _follow(self, device: str, act: OnMessage) -> Stop:
        subjects = (
            kept_subject(device, "telemetry", "*"),
            kept_subject(device, "log", ""),
            kept_subject(device, "metrics", ""),
            f"{ROOT}.{device}.shadow.*",
            kv_subject(PRESENCE_BUCKET, device),
        )
        subscriptions = [await self._platform.client.subscribe(one, cb=act) for one in subjects]

        async def stop() -> None:
            for subscription in subscriptions:
                await subscription.unsubscribe()

        return stop

    async def _read_last(self, device: str, kind: str, stream: str, limit: int) -> list[Record]:
        subject = kept_subject(device, kind, stream or "*")
        name = _STREAM_OF[kind]
        since = None
        if await count_since(self._js, name, subject, None) > _FEW * limit:
            for back in _LOOK_BACK:
                if await count_since(self._js, name, subject, self._clock.now() - back) >= limit:
                    since = self._clock.now() - back
                    break
        last: deque[bytes] = deque(maxlen=limit)
        async for message in read_stream(self._js, name, subject, since=since):
            last.append(message.data)
        return [parse_record(content) for content in last]

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_ANSWER_TIMEOUT_S)
        except (nats.errors.Error, FutureTimeoutError, OSError) as error:
            future.cancel()
            raise UnavailableError("telemetry: expected NATS to answer, found it silent") from error


def _put(queue: asyncio.Queue[WatchItem], item: WatchItem) -> None:
    if not queue.full():
        queue.put_nowait(item)
