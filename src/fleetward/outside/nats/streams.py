"""The JetStream streams we keep, their bounds, and how to read one back.

The streams named `$MQTT_…` are nats-server's own; a PUBACK promises that a message lies in `$MQTT_msgs`. We
create them before the first device connects, as the server would, so that our durable consumer is there from
the first message on, and with a bound each: a device that floods must not take the room of events.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError, NotFoundError

from fleetward.outside.nats.connection import NatsConnection

EVENTS = "EVENTS"
TELEMETRY = "TELEMETRY"
LOGS = "LOGS"
METRICS = "METRICS"
DEAD_LETTERS = "DEADLETTERS"
ADMISSION_BUCKET = "admission"
PRESENCE_BUCKET = "presence"
MQTT_MESSAGES = "$MQTT_msgs"
MQTT_HALF_RECEIVED = "$MQTT_qos2in"
MQTT_SESSIONS = "$MQTT_sess"
MQTT_SUBJECT_PREFIX = "$MQTT.msgs."

_DAY_S = 24 * 3600
# A message of QoS 2 that its device never releases: it is not delivered then.
HALF_RECEIVED_FOR_S = float(_DAY_S)
_FETCH = 500
_READ_TIMEOUT_S = 5.0
_SHORT_REPLY = 9
# A device sends again what it has no PUBACK for; within this time its own message ids tell repeats.
_DUPLICATE_WINDOW_S = 600.0


@dataclass(frozen=True)
class Retention:
    """Bounds of what devices send: whichever is met first drops the oldest.

    Attributes:
        max_bytes: of what we keep, all streams together.
        max_mqtt_bytes: of what nats-server holds until we have taken it in.
        max_per_subject: messages of one device and stream, so that a noisy one evicts only its own.
    """

    max_bytes: int = 6 * 1024**3
    max_mqtt_bytes: int = 2 * 1024**3
    telemetry_age_s: float = 30 * _DAY_S
    logs_age_s: float = 30 * _DAY_S
    metrics_age_s: float = 7 * _DAY_S
    events_age_s: float = 90 * _DAY_S
    max_per_subject: int = 100_000
    dead_letters_age_s: float = 30 * _DAY_S
    max_dead_letter_bytes: int = 64 * 1024**2
    max_dead_letters_per_device: int = 100


def kv_subject(bucket: str, key: str) -> str:
    """Return the subject that writing `key` of a bucket is a message on."""
    return f"$KV.{bucket}.{key}"


async def ensure_streams(js: JetStreamContext, *, replicas: int, retention: Retention) -> None:
    """Create the streams and buckets, or bring them to these bounds. Several processes may do so at once."""
    share = retention.max_bytes // 10
    for config in (
        _bounded(EVENTS, "events.>", retention.events_age_s, share),
        _bounded(TELEMETRY, "telemetry.>", retention.telemetry_age_s, share * 6, retention.max_per_subject),
        _bounded(LOGS, "logs.>", retention.logs_age_s, share * 2, retention.max_per_subject),
        _bounded(METRICS, "metrics.>", retention.metrics_age_s, share, retention.max_per_subject),
        _bounded(
            DEAD_LETTERS,
            "deadletters.>",
            retention.dead_letters_age_s,
            retention.max_dead_letter_bytes,
            retention.max_dead_letters_per_device,
        ),
        _bucket(ADMISSION_BUCKET),
        _bucket(PRESENCE_BUCKET),
    ):
        await _ensure(js, config.evolve(num_replicas=replicas))
    for config, bound in mqtt_streams():
        await _ensure(js, bound(config, retention.max_mqtt_bytes).evolve(num_replicas=replicas))


Bound = Callable[[StreamConfig, int], StreamConfig]


def mqtt_streams() -> tuple[tuple[StreamConfig, Bound], ...]:
    """Return streams as nats-server creates them at the first MQTT connection, and how we bound each."""
    messages = StreamConfig(
        name=MQTT_MESSAGES,
        subjects=[f"{MQTT_SUBJECT_PREFIX}>"],
        retention=RetentionPolicy.INTEREST,
        storage=StorageType.FILE,
    )
    retained = StreamConfig(
        name="$MQTT_rmsgs",
        subjects=["$MQTT.rmsgs.>"],
        storage=StorageType.FILE,
        max_msgs_per_subject=1,
    )
    half_received = StreamConfig(
        name=MQTT_HALF_RECEIVED,
        subjects=["$MQTT.qos2.in.>"],
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        discard_new_per_subject=True,
        max_msgs_per_subject=1,
    )
    return (
        # When it is full the server gives no PUBACK, and devices keep their messages and try again.
        (messages, lambda config, size: config.evolve(max_bytes=size, discard=DiscardPolicy.NEW)),
        (retained, lambda config, size: config.evolve(max_bytes=size // 8)),
        (half_received, lambda config, size: config.evolve(max_bytes=size // 8, max_age=HALF_RECEIVED_FOR_S)),
    )


async def read_stream(
    js: JetStreamContext, stream: str, subject: str, *, since: datetime | None = None, only_last: bool = False
) -> AsyncIterator[Msg]:
    """Yield what lies under `subject` now, oldest first: all of it, since a time, or each subject's last."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT if only_last else DeliverPolicy.ALL,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=30.0,
        mem_storage=True,
        num_replicas=1,
    )
    if since is not None:
        config = config.evolve(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since)
    subscription = await js.pull_subscribe(subject, stream=stream, config=config)
    try:
        info = await subscription.consumer_info()
        left = info.num_pending or 0
        while left > 0:
            try:
                found = await subscription.fetch(min(left, _FETCH), timeout=_READ_TIMEOUT_S)
            except nats.errors.TimeoutError:
                return  # retention dropped the rest meanwhile
            left -= len(found)
            for message in found:
                yield message
    finally:
        await subscription.unsubscribe()
        await js.delete_consumer(stream, info.name)


async def follow_stream(
    connection: NatsConnection,
    js: JetStreamContext,
    stream: str,
    act: Callable[[Msg], Awaitable[None]],
    *,
    after: int,
) -> Subscription:
    """Call `act` with each message stored behind number `after`, in order; `sequence_of` tells its number.

    The server forgets it when the connection ends, or when the node that serves it does.
    """
    inbox = connection.client.new_inbox()
    subscription = await connection.follow(inbox, act)
    await js.add_consumer(
        stream,
        ConsumerConfig(
            deliver_subject=inbox,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=30.0,
            mem_storage=True,
            num_replicas=1,
        ),
    )
    return subscription


def sequence_of(message: Msg) -> int:
    """Return a delivered message's number in its stream."""
    # $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<sequence>.<of consumer>.<time>.<pending>
    tokens = message.reply.split(".")
    return int(tokens[5] if len(tokens) == _SHORT_REPLY else tokens[7])


async def count_since(js: JetStreamContext, stream: str, subject: str, since: datetime | None) -> int:
    """Return how many messages lie under `subject`: all, or those since a time."""
    config = ConsumerConfig(
        filter_subject=subject,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=5.0,
        mem_storage=True,
        num_replicas=1,
    )
    if since is not None:
        config = config.evolve(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since)
    info = await js.add_consumer(stream, config)
    await js.delete_consumer(stream, info.name)
    return info.num_pending or 0


def _bounded(
    name: str, subject: str, max_age_s: float, max_bytes: int, per_subject: int = -1
) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=[subject],
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_age=max_age_s,
        max_bytes=max_bytes,
        max_msgs_per_subject=per_subject,
        duplicate_window=_DUPLICATE_WINDOW_S,
        allow_direct=True,
    )


def _bucket(name: str) -> StreamConfig:
    """Return a key-value bucket that keeps the last value of each key."""
    return StreamConfig(
        name=f"KV_{name}",
        subjects=[kv_subject(name, ">")],
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_msgs_per_subject=1,
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
    )


async def _ensure(js: JetStreamContext, config: StreamConfig) -> None:
    name = config.name or ""
    try:
        await js.stream_info(name)
    except NotFoundError:
        try:
            await js.add_stream(config)
        except BadRequestError:  # another process created it a moment ago
            await js.stream_info(name)
        return
    await js.update_stream(config)
