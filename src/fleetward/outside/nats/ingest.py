"""Takes in what devices send.

QoS 1: from the durable consumer on nats-server's own `$MQTT_msgs`, because that is where a PUBACK promises
the message lies; acknowledged there after it is kept. QoS 0: from plain subscriptions, nothing promised.
"""

import asyncio
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from datetime import datetime
from functools import lru_cache

from nats.js.api import Header

from fleetward.base.clock import Clock
from fleetward.base.db import Database
from fleetward.base.errors import InvalidInputError
from fleetward.base.logging import get_logger
from fleetward.features.messaging import handlers
from fleetward.features.messaging.intake.batch import DeviceMessage, Stage, repeat_key
from fleetward.features.messaging.intake.flood import WINDOW_S, FloodWatch
from fleetward.features.messaging.intake.keep import TakenReading
from fleetward.features.messaging.intake.limit import Limit
from fleetward.features.messaging.model import Shadow
from fleetward.outside.nats.batch import BatchPublisher, Outgoing
from fleetward.outside.nats.config import MAX_PAYLOAD_BYTES
from fleetward.outside.nats.connection import NatsConnection, retry
from fleetward.outside.nats.consumer import Delivery
from fleetward.outside.nats.dead_letters import DeadLetterBox
from fleetward.outside.nats.downlink import Downlink
from fleetward.outside.nats.isolating import IsolatingHandler
from fleetward.outside.nats.lean import follow_lean
from fleetward.outside.nats.refusals import RefusalRecorder
from fleetward.outside.nats.streams import MQTT_SUBJECT_PREFIX
from fleetward.wire.mqtt_topics import UPWARD, Topic, TopicKind, mqtt_topic, parse_subject
from fleetward.wire.telemetry import render_record

log = get_logger("ingest")

NAME = "ingest"
_QOS_HEADER = "Nmqtt-Pub"
# Marks a message that came by another way than MQTT, to be taken in as one of QoS 0.
UNPROMISED_HEADERS = {_QOS_HEADER: "0"}
_IS_UNPROMISED = re.compile(rb"\r\n" + _QOS_HEADER.encode() + rb":\s*0")
_UPWARD_SUBJECTS = tuple(Topic("*", kind, "*").subject for kind in UPWARD)
SUBJECTS = tuple(f"{MQTT_SUBJECT_PREFIX}{subject}" for subject in _UPWARD_SUBJECTS)
_BATCH = 500
# How long what a device sent waits for more to be taken in with it.
GATHER_S = 0.05
_MAX_TOPICS = 8192
_MAX_QUEUED = 20_000
# Beside a record goes a header that tells its repeats.
MAX_RECORD_BYTES = MAX_PAYLOAD_BYTES - 1024
_KEPT_AS = {
    TopicKind.TELEMETRY: "telemetry",
    TopicKind.LOG: "log",
    TopicKind.METRICS: "metrics",
}


OnFlood = Callable[[str, str], None]


class Ingest:
    """Checks messages and keeps them: readings in JetStream, shadows and results in SQL."""

    def __init__(
        self,
        *,
        db: Database,
        threads: Executor,
        clock: Clock,
        platform: NatsConnection,
        unpromised: NatsConnection,
        refusals: RefusalRecorder,
        downlink: Downlink,
        dead_letters: DeadLetterBox,
        limit: Limit,
        stages: Sequence[Stage],
        on_flood: OnFlood,
        told_kinds: Collection[str],
    ) -> None:
        """Prepare.

        Args:
            unpromised: by which messages of QoS 0 come in; nothing else may depend on it.
            limit: what each device may send.
            stages: what messages pass between being read and being kept.
            on_flood: told who sends what the budgets cannot hold, and what it does; must be quick.
            told_kinds: kinds of events that a device may tell of in its log.
        """
        self._db = db
        self._threads = threads
        self._clock = clock
        self._platform = platform
        self._heard = unpromised
        self._publisher = BatchPublisher(platform)
        self._refusals = refusals
        self._downlink = downlink
        self._dead_letters = dead_letters
        self._admit = limit.admit
        self._stages: tuple[Stage, ...] = (limit, *stages)
        self._on_flood = on_flood
        self._arriving = FloodWatch(limit.most_within(WINDOW_S))
        self._told_kinds = told_kinds
        # Devices use the same topics again and again.
        self._parse_subject = lru_cache(_MAX_TOPICS)(parse_subject)
        self._unpromised: asyncio.Queue[DeviceMessage] = asyncio.Queue(_MAX_QUEUED)
        self._isolating = IsolatingHandler(
            self._take_in, on_handled=_forget, on_bad=self._set_aside_unpromised
        )
        self.dropped = 0

    async def handle(self, batch: list[Delivery]) -> None:
        """Take in a batch of QoS 1 messages; raises when they could not be kept, so that they come again."""
        await self._take_in([found for message in batch if (found := self._parse_promised(message))])

    async def start(self) -> None:
        """Hear QoS 0 messages from now on."""
        await self._publisher.start()
        for subject in _UPWARD_SUBJECTS:
            await follow_lean(self._heard.client, subject, self._on_unpromised, queue=NAME)

    async def run(self) -> None:
        """Take in QoS 0 messages until cancelled."""
        while True:
            batch = [await self._unpromised.get()]
            if self._unpromised.qsize() < _BATCH:
                await asyncio.sleep(GATHER_S)
            while len(batch) < _BATCH and not self._unpromised.empty():
                batch.append(self._unpromised.get_nowait())
            self._isolating.left = batch
            await retry(self._take_in_left, what="ingest")

    async def _take_in_left(self) -> None:
        """Take in what of the batch is left: nobody sends it again."""
        await self._isolating.run(self._isolating.left)

    async def _take_in(self, messages: list[DeviceMessage]) -> None:
        if not messages:
            return
        loop = asyncio.get_running_loop()
        taken, refused = await loop.run_in_executor(
            self._threads, handlers.take_in, self._db, self._stages, messages, self._told_kinds, self._admit
        )
        for one in refused:
            topic, size = one.message.topic, len(one.message.unverified_payload)
            if one.limit:
                self._refusals.note_limit(topic.device, one.limit, size=size)
                continue
            self._refusals.note_message(topic.device, topic.mqtt, one.reason, size=size)
        await self._publisher.publish(self._render(taken.readings))
        for shadow in taken.shadows:
            await self._after_report(shadow)

    def _render(self, readings: Iterable[TakenReading]) -> list[Outgoing]:
        """Return what is kept; a reading that grows too large when it is written out is refused."""
        found: list[Outgoing] = []
        for taken in readings:
            outgoing = _outgoing(taken)
            if len(outgoing.payload) <= MAX_RECORD_BYTES:
                found.append(outgoing)
                continue
            topic, size = taken.message.topic, len(taken.message.unverified_payload)
            reason = (
                f"as it is kept, expected at most {MAX_RECORD_BYTES} bytes, found {len(outgoing.payload)}"
            )
            self._refusals.note_message(topic.device, topic.mqtt, reason, size=size)
        return found

    async def _after_report(self, shadow: Shadow) -> None:
        """Send what is desired and what commands wait: a device that reports is there to hear it."""
        await self._platform.client.publish(f"fleet.shadow.{shadow.device}", b"")
        self._downlink.serve(shadow.device)

    async def _set_aside_unpromised(self, message: DeviceMessage, error: Exception, failures: int) -> None:
        log.error("message_set_aside", consumer=NAME, subject=message.topic.subject, exc_info=error)
        await self._dead_letters.put(
            NAME,
            subject=message.topic.subject,
            sequence=0,
            at=message.received_at,
            payload=message.unverified_payload,
            error=error,
            failures=failures,
        )

    def _on_unpromised(self, subject: bytes, _reply: bytes, headers: bytes, payload: bytes) -> None:
        """Queue a QoS 0 message; a QoS 1 message comes by this way too, and is left to the consumer.

        So all is seen here as it arrives, before it waits for anything: who floods is known at once.
        """
        device = subject.split(b".", 2)[1].decode(errors="replace")
        if self._arriving.note(device, time.monotonic(), size=len(payload)):
            self._on_flood(device, f"it sent more within {WINDOW_S:.0f} s than its budgets hold")
        if not _IS_UNPROMISED.search(headers):
            return
        found = self._parse(subject.decode(errors="replace"), payload, self._clock.now(), 0)
        if found is None:
            return
        try:
            self._unpromised.put_nowait(found)
        except asyncio.QueueFull:
            self.dropped += 1
            self._refusals.note_refused(found.topic.device, size=len(payload))

    def _parse_promised(self, message: Delivery) -> DeviceMessage | None:
        subject = message.subject.removeprefix(MQTT_SUBJECT_PREFIX)
        return self._parse(subject, message.data, message.at, message.sequence)

    def _parse(self, subject: str, payload: bytes, at: datetime, sequence: int) -> DeviceMessage | None:
        try:
            topic = self._parse_subject(subject)
        except InvalidInputError as error:
            device = subject.split(".")[1]
            self._refusals.note_message(device, mqtt_topic(subject), error.message, size=len(payload))
            return None
        return DeviceMessage(topic, payload, at, sequence)


async def _forget(_handled: Sequence[DeviceMessage]) -> None:
    """Acknowledge nothing: nobody was promised anything."""


def kept_subject(device: str, kind: str, stream: str) -> str:
    """Return the subject a reading is kept under."""
    match kind:
        case "telemetry":
            return f"telemetry.{device}.{stream}"
        case "log":
            return f"logs.{device}"
        case _:
            return f"metrics.{device}"


def _outgoing(taken: TakenReading) -> Outgoing:
    message, topic = taken.message, taken.message.topic
    kind = _KEPT_AS[topic.kind]
    return Outgoing(
        kept_subject(topic.device, kind, topic.name),
        render_record(topic.device, kind, topic.name, taken.reading, message.received_at),
        _headers(taken),
    )


def _headers(taken: TakenReading) -> dict[str, str] | None:
    key = repeat_key(taken.message, taken.reading)
    return None if key is None else {Header.MSG_ID.value: key}
