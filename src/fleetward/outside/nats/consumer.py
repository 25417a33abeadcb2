"""A durable JetStream consumer that several processes share, handing on messages in batches.

A message is acknowledged after its batch was handled. When handling fails, the whole batch comes again:
handlers are idempotent.
"""

import asyncio
from collections.abc import Awaitable, Callable

import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from fleetward.base.errors import FleetwardError
from fleetward.base.logging import get_logger
from fleetward.outside.nats.connection import NatsConnection

log = get_logger("consumer")

MAX_BATCH = 500
_PAUSE_AFTER_ERROR_S = 1.0

Handler = Callable[[list[Msg]], Awaitable[None]]


class DurableConsumer:
    """Pushes what a stream holds under some subjects to one handler."""

    def __init__(
        self,
        connection: NatsConnection,
        js: JetStreamContext,
        *,
        stream: str,
        name: str,
        subjects: tuple[str, ...],
        handle: Handler,
        ack_wait_s: float,
        max_unacknowledged: int = 2 * MAX_BATCH,
    ) -> None:
        """Prepare a consumer.

        Args:
            ack_wait_s: after which a message comes again that was on its way when a process died.
        """
        self._connection = connection
        self._js = js
        self._stream = stream
        self.name = name
        self._subjects = subjects
        self._handle = handle
        self._ack_wait_s = ack_wait_s
        self._max_unacknowledged = max_unacknowledged
        self._queue: asyncio.Queue[Msg] = asyncio.Queue()

    async def create(self) -> None:
        """Create the consumer, or bring it to this configuration; from then on the stream keeps for it."""
        await self._js.add_consumer(
            self._stream,
            ConsumerConfig(
                durable_name=self.name,
                deliver_subject=self._deliver_subject,
                deliver_group=self.name,
                filter_subjects=list(self._subjects),
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=self._ack_wait_s,
                max_ack_pending=self._max_unacknowledged,
            ),
        )

    async def start(self) -> None:
        """Take messages from now on, sharing them with the other processes that do."""
        await self._connection.follow(self._deliver_subject, self._queue.put, queue=self.name)

    async def run(self) -> None:
        """Handle batches until cancelled."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < MAX_BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                await self._handle(batch)
                for message in batch:
                    await message.ack()
            except (nats.errors.Error, TimeoutError, FleetwardError) as error:
                log.warning(
                    "batch_failed", consumer=self.name, error=type(error).__name__, messages=len(batch)
                )
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
                await self._give_back(batch)

    async def _give_back(self, batch: list[Msg]) -> None:
        """Ask for the batch again; what cannot be asked for comes after the acknowledgement wait."""
        for message in batch:
            try:
                await message.nak()
            except nats.errors.Error:
                return

    @property
    def _deliver_subject(self) -> str:
        return f"fleet.deliver.{self.name}"
