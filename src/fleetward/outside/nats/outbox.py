"""Carries events from the outbox to JetStream, at least once, in the moment they are committed.

The event's row is marked only after JetStream has acknowledged it; a repeat is dropped there by its id.
"""

import asyncio
from concurrent.futures import Executor
from contextlib import suppress

import msgspec
import nats
from nats.js import JetStreamContext
from nats.js.api import Header

from fleetward.base.db import Database
from fleetward.base.errors import UnavailableError
from fleetward.base.events import Event, list_unpublished, mark_published
from fleetward.base.logging import get_logger

log = get_logger("outbox")

SUBJECT_PREFIX = "events."
_BATCH = 500
_POLL_S = 1.0
_PAUSE_AFTER_ERROR_S = 0.5


class OutboxPublisher:
    """Publishes unpublished events whenever this process has written, and once a second."""

    def __init__(self, db: Database, js: JetStreamContext, threads: Executor) -> None:
        self._db = db
        self._js = js
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        db.on_write(self._on_write)

    async def run(self) -> None:
        """Publish until cancelled; whatever fails is tried again."""
        while True:
            try:
                while await self._publish_batch() == _BATCH:
                    pass
            except (nats.errors.Error, TimeoutError, UnavailableError) as error:
                log.warning("outbox_retry", error=type(error).__name__)
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._wake.wait()
            self._wake.clear()

    async def _publish_batch(self) -> int:
        found = await self._loop.run_in_executor(self._threads, self._read)
        if found:
            await asyncio.gather(*map(self._publish, found))
            await self._loop.run_in_executor(self._threads, self._mark, [event.id for event in found])
        return len(found)

    async def _publish(self, event: Event) -> None:
        content = msgspec.json.encode(event.as_json())
        # The time is part of the id: a database restored from a backup counts from an older number.
        message_id = f"{event.id}-{event.at.timestamp():.6f}"
        await self._js.publish(
            f"{SUBJECT_PREFIX}{event.kind}", content, headers={Header.MSG_ID.value: message_id}
        )

    def _read(self) -> list[Event]:
        with self._db.read() as tx:
            return list_unpublished(tx, limit=_BATCH)

    def _mark(self, ids: list[int]) -> None:
        # Told to nobody: it would wake us for another look each time.
        with self._db.write("system:outbox", is_told=False) as tx:
            mark_published(tx, ids)

    def _on_write(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)
