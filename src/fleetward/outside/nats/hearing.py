"""Has features hear events: for each `Hears` of a door a durable consumer of its own.

An event is acknowledged after the transaction that handled it. One that cannot be handled comes again, later
each time, while those after it go on; after `max_deliveries` it goes to the dead letters, which is told.
While the database is away nothing counts as a failure.
"""

import asyncio
from concurrent.futures import Executor
from datetime import datetime

import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from fleetward.base.db import Database
from fleetward.base.errors import CorruptDataError, InvalidInputError, UnavailableError
from fleetward.base.events import Event
from fleetward.base.feature import Hears
from fleetward.base.logging import get_logger
from fleetward.features.events.service import hear, parse_event
from fleetward.outside.nats.dead_letters import TOLD_AS, DeadLetterBox
from fleetward.outside.nats.outbox import SUBJECT_PREFIX
from fleetward.outside.nats.streams import EVENTS

log = get_logger("hearing")

_BATCH = 50
_FETCH_S = 5.0
_ACK_WAIT_S = 30.0
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


class Hearing:
    """Brings events to one handler; several processes may each run one, and share the events."""

    def __init__(
        self,
        js: JetStreamContext,
        db: Database,
        threads: Executor,
        dead_letters: DeadLetterBox,
        hears: Hears,
    ) -> None:
        self._js = js
        self._dead_letters = dead_letters
        self._db = db
        self._threads = threads
        self._hears = hears
        self.name = f"hears-{hears.name}"

    async def create(self) -> None:
        """Create the consumer, or bring it to this configuration; from then on the stream keeps for it."""
        await self._js.add_consumer(
            EVENTS,
            ConsumerConfig(
                durable_name=self.name,
                filter_subjects=[f"{SUBJECT_PREFIX}{kind}" for kind in sorted(self._hears.kinds)],
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=_ACK_WAIT_S,
            ),
        )

    async def start(self) -> None:
        """Play dead letters of this handler again when asked, from now on."""
        await self._dead_letters.serve_replays(self.name, self._replay)

    async def run(self) -> None:
        """Handle events until cancelled."""
        subscription = await self._js.pull_subscribe_bind(consumer=self.name, stream=EVENTS)
        try:
            while True:
                try:
                    found = await subscription.fetch(_BATCH, timeout=_FETCH_S)
                except (TimeoutError, nats.errors.TimeoutError):
                    continue
                for message in found:
                    await self._handle(message)
        finally:
            await subscription.unsubscribe()

    async def _handle(self, message: Msg) -> None:
        try:
            event = parse_event(message.data)
        except InvalidInputError as error:
            log.warning("event_unreadable", handler=self._hears.name, reason=error.message)
            await message.term()
            return
        while True:
            try:
                await self._in_thread(event)
            except (UnavailableError, CorruptDataError) as error:
                log.warning("hearing_waits", handler=self._hears.name, code=error.code)
                await message.in_progress()
                await asyncio.sleep(_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - a feature's handler may fail in any way
                await self._come_again(message, event, error)
                return
            else:
                await message.ack()
                return

    async def _in_thread(self, event: Event) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, hear, self._db, self._hears, event)

    async def _come_again(self, message: Msg, event: Event, error: Exception) -> None:
        """Ask for the event again, a little later each time; set it aside when that was often enough."""
        deliveries = message.metadata.num_delivered or 1
        log.error(
            "event_not_handled",
            handler=self._hears.name,
            kind=event.kind,
            event_id=event.id,
            deliveries=deliveries,
            exc_info=error,
        )
        if deliveries < self._hears.max_deliveries:
            await message.nak(delay=min(_LONGEST_PAUSE_S, _PAUSE_S * 2 ** (deliveries - 1)))
            return
        await self._dead_letters.put(
            self.name,
            subject=message.subject,
            sequence=message.metadata.sequence.stream,
            at=message.metadata.timestamp,
            payload=message.data,
            error=error,
            failures=deliveries,
            is_told=event.kind != TOLD_AS,  # or who cannot handle that one would be fed by its own failures
        )
        await message.term()

    async def _replay(self, _subject: str, _sequence: int, _at: datetime, payload: bytes) -> None:
        await self._in_thread(parse_event(payload))
