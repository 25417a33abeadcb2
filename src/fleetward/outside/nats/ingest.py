"""Takes in what devices send.

QoS 1: from the durable consumer on nats-server's own `$MQTT_msgs`, because that is where a PUBACK promises
the message lies; acknowledged there after it is kept. QoS 0: from plain subscriptions, nothing promised.
"""

import asyncio
import hashlib
from concurrent.futures import Executor
from datetime import UTC

from nats.aio.msg import Msg
from nats.js.api import Header

from fleetward.base.clock import Clock
from fleetward.base.db import Database
from fleetward.base.errors import InvalidInputError
from fleetward.base.logging import get_logger
from fleetward.features.messaging import handlers
from fleetward.features.messaging.handlers import DeviceMessage, TakenReading
from fleetward.features.messaging.model import Shadow
from fleetward.outside.nats.batch import BatchPublisher, Outgoing
from fleetward.outside.nats.connection import NatsConnection, retry
from fleetward.outside.nats.downlink import Downlink
from fleetward.outside.nats.refusals import RefusalRecorder
from fleetward.outside.nats.streams import MQTT_SUBJECT_PREFIX
from fleetward.wire.mqtt_topics import UPWARD, Topic, TopicKind, parse_subject
from fleetward.wire.telemetry import render_record

log = get_logger("ingest")

NAME = "ingest"
_QOS_HEADER = "Nmqtt-Pub"
# Marks a message that came by another way than MQTT, to be taken in as one of QoS 0.
UNPROMISED_HEADERS = {_QOS_HEADER: "0"}
_UPWARD_SUBJECTS = tuple(Topic("*", kind, "*").subject for kind in UPWARD)
SUBJECTS = tuple(f"{MQTT_SUBJECT_PREFIX}{subject}" for subject in _UPWARD_SUBJECTS)
_BATCH = 500
_MAX_QUEUED = 20_000
_KEPT_AS = {
    TopicKind.TELEMETRY: "telemetry",
    TopicKind.LOG: "log",
    TopicKind.METRICS: "metrics",
}


class Ingest:
    """Checks messages and keeps them: readings in JetStream, shadows and results in SQL."""

    def __init__(
        self,
        *,
        db: Database,
        threads: Executor,
        clock: Clock,
        platform: NatsConnection,
        refusals: RefusalRecorder,
        downlink: Downlink,
    ) -> None:
        self._db = db
        self._threads = threads
        self._clock = clock
        self._platform = platform
        self._publisher = BatchPublisher(platform)
        self._refusals = refusals
        self._downlink = downlink
        self._unpromised: asyncio.Queue[DeviceMessage] = asyncio.Queue(_MAX_QUEUED)
        self.dropped = 0

    async def handle(self, batch: list[Msg]) -> None:
        """Take in a batch of QoS 1 messages; raises when they could not be kept, so that they come again."""
        await self._take_in([found for message in batch if (found := self._parse_promised(message))])

    async def start(self) -> None:
        """Hear QoS 0 messages from now on."""
        await self._publisher.start()
        for subject in _UPWARD_SUBJECTS:
            await self._platform.follow(subject, self._on_unpromised, queue=NAME)

    async def run(self) -> None:
        """Take in QoS 0 messages until cancelled."""
        while True:
            batch = [await self._unpromised.get()]
            while len(batch) < _BATCH and not self._unpromised.empty():
                batch.append(self._unpromised.get_nowait())
            await retry(lambda found=batch: self._take_in(found), what="ingest")  # type: ignore[misc]

    async def _take_in(self, messages: list[DeviceMessage]) -> None:
        if not messages:
            return
        loop = asyncio.get_running_loop()
        refused: list[tuple[DeviceMessage, str]] = []
        taken = await loop.run_in_executor(
            self._threads, handlers.take_in, self._db, messages, lambda one, why: refused.append((one, why))
        )
        for message, reason in refused:
            topic = message.topic
            self._refusals.note_message(
                topic.device, topic.mqtt, reason, size=len(message.unverified_payload)
            )
        await self._publisher.publish(map(_outgoing, taken.readings))
        for shadow in taken.shadows:
            await self._after_report(shadow)

    async def _after_report(self, shadow: Shadow) -> None:
        """Send what is desired and what commands wait: a device that reports is there to hear it."""
        await self._platform.client.publish(f"fleet.shadow.{shadow.device}", b"")
        self._downlink.serve(shadow.device)

    async def _on_unpromised(self, message: Msg) -> None:
        """Queue a QoS 0 message; a QoS 1 message comes by this way too, and is left to the consumer."""
        if (message.headers or {}).get(_QOS_HEADER) != "0":
            return
        found = self._parse(message, message.subject, 0)
        if found is None:
            return
        try:
            self._unpromised.put_nowait(found)
        except asyncio.QueueFull:
            self.dropped += 1

    def _parse_promised(self, message: Msg) -> DeviceMessage | None:
        subject = message.subject.removeprefix(MQTT_SUBJECT_PREFIX)
        return self._parse(message, subject, message.metadata.sequence.stream)

    def _parse(self, message: Msg, subject: str, sequence: int) -> DeviceMessage | None:
        try:
            topic = parse_subject(subject)
        except InvalidInputError as error:
            device = subject.split(".")[1]
            self._refusals.note_message(device, subject, error.message, size=len(message.data))
            return None
        at = message.metadata.timestamp.astimezone(UTC) if sequence else self._clock.now()
        return DeviceMessage(topic, message.data, at, sequence)


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
    """Return what a repeat is known by: the device's id for it, else the broker's number and time."""
    message, reading = taken.message, taken.reading
    if reading.id:
        named = f"{message.topic.subject}\0{reading.id}"
        return {Header.MSG_ID.value: hashlib.sha256(named.encode()).hexdigest()[:32]}
    if message.sequence:
        return {Header.MSG_ID.value: f"{message.sequence}-{message.received_at.timestamp():.6f}"}
    return None
