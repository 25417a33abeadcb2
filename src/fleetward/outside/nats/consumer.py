"""A durable JetStream consumer that several processes share, handing on messages in batches.

A message is acknowledged after its batch was handled. One that cannot be handled goes to the dead letters
(see `isolating`); when NATS or the database is away, the whole batch comes again: handlers are idempotent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import nats
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from fleetward.base.errors import FleetwardError
from fleetward.base.logging import get_logger
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.dead_letters import DeadLetterBox
from fleetward.outside.nats.isolating import IsolatingHandler
from fleetward.outside.nats.lean import follow_lean, publish_empty

log = get_logger("consumer")

MAX_BATCH = 500
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_PAUSE_AFTER_ERROR_S = 1.0
_GIVE_BACK = b"-NAK"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as a stream holds it.

    Attributes:
        sequence: its number in the stream.
        at: when the stream took it.
        reply: where it is acknowledged; "" for one that is played again.
    """

    subject: str
    data: bytes
    sequence: int
    at: datetime
    reply: str = ""


Handler = Callable[[list[Delivery]], Awaitable[None]]


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
        dead_letters: DeadLetterBox,
        ack_wait_s: float,
        max_unacknowledged: int = 2 * MAX_BATCH,
        gather_s: float = 0.0,
    ) -> None:
        """Prepare a consumer.

        Args:
            handle: may see a message again, alone or in another batch.
            dead_letters: where those go that it cannot handle.
            ack_wait_s: after which a message comes again that was on its way when a process died.
            gather_s: how long a batch that is not full waits for more: a batch of one costs six times what a
                message of a full one does.
        """
        self._connection = connection
        self._js = js
        self._stream = stream
        self.name = name
        self._subjects = subjects
        self._dead_letters = dead_letters
        self._ack_wait_s = ack_wait_s
        self._max_unacknowledged = max_unacknowledged
        self._gather_s = gather_s
        self._is_full = asyncio.Event()
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self._open: dict[str, Delivery] = {}
        # Queued or being handled: they come again after each acknowledgement wait, however long that takes.
        self._held: set[int] = set()
        self._handler = IsolatingHandler(handle, on_handled=self._acknowledge, on_bad=self._set_aside)
        self._replayed = handle

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
        await follow_lean(self._connection.client, self._deliver_subject, self._take, queue=self.name)
        await self._dead_letters.serve_replays(self.name, self._replay)

    async def run(self) -> None:
        """Handle batches until cancelled."""
        while True:
            batch = [await self._queue.get()]
            await self._gather()
            size = len(batch[0].data)
            while len(batch) < MAX_BATCH and size < _MAX_BATCH_BYTES and not self._queue.empty():
                batch.append(self._queue.get_nowait())
                size += len(batch[-1].data)
            self._open = {one.reply: one for one in batch}
            if not await self._handle(batch):
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
                await self._give_back()

    async def _gather(self) -> None:
        """Return when there is enough for a batch, or the time for that is over."""
        if not self._gather_s:
            return
        self._is_full.clear()
        if self._queue.qsize() >= MAX_BATCH - 1:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._gather_s):
                await self._is_full.wait()

    async def _handle(self, batch: list[Delivery]) -> bool:
        try:
            await self._handler.run(batch)
        except (nats.errors.Error, TimeoutError, OSError, FleetwardError) as error:
            log.warning(
                "batch_failed", consumer=self.name, error=type(error).__name__, messages=len(self._open)
            )
            return False
        else:
            return True
        finally:
            self._held.difference_update(one.sequence for one in batch)

    def _take(self, subject: bytes, reply: bytes, _headers: bytes, payload: bytes) -> None:
        """Queue a message; its acknowledgement subject tells number and time.

        `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<ns>.<pending>`; where the
        server has a domain, it and the account stand after `ACK`.
        """
        words = reply.split(b".")
        if len(words) < 9:  # noqa: PLR2004 - not from a stream
            return
        first = 2 if len(words) == 9 else 4  # noqa: PLR2004 - the older form
        sequence = int(words[first + 3])
        if sequence in self._held:
            return  # the acknowledgement of the one that is held counts for it
        self._held.add(sequence)
        at = datetime.fromtimestamp(int(words[first + 5]) // 1000 / 1_000_000, UTC)
        self._queue.put_nowait(Delivery(subject.decode(), payload, sequence, at, reply.decode()))
        if self._queue.qsize() >= MAX_BATCH - 1:
            self._is_full.set()

    async def _acknowledge(self, batch: Sequence[Delivery]) -> None:
        replies = [one.reply for one in batch if self._open.pop(one.reply, None) is not None]
        await publish_empty(self._connection.client, replies)

    async def _set_aside(self, message: Delivery, error: Exception, failures: int) -> None:
        log.error(
            "message_set_aside",
            consumer=self.name,
            subject=message.subject[:200],
            sequence=message.sequence,
            exc_info=error,
        )
        await self._dead_letters.put(
            self.name,
            subject=message.subject,
            sequence=message.sequence,
            at=message.at,
            payload=message.data,
            error=error,
            failures=failures,
        )
        await self._acknowledge([message])

    async def _give_back(self) -> None:
        """Ask for what is open again; what cannot be asked for comes after the acknowledgement wait."""
        given_back, self._open = list(self._open), {}
        for reply in given_back:
            try:
                await self._connection.client.publish(reply, _GIVE_BACK)
            except nats.errors.Error:
                return

    async def _replay(self, subject: str, sequence: int, at: datetime, payload: bytes) -> None:
        await self._replayed([Delivery(subject, payload, sequence, at)])

    @property
    def _deliver_subject(self) -> str:
        return f"fleet.deliver.{self.name}"
