"""The dead letters: messages that could not be handled, kept for somebody to look at and to play again.

They lie in a stream of their own, bounded in size and age and for each device, so that one that sends nothing
else pushes out its own. Playing one again is asked of whichever process runs the consumer it came from.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import NotFoundError as NoSuchMessageError

from fleetward.base.clock import Clock, parse_time, render_time
from fleetward.base.logging import get_logger
from fleetward.features.messaging.ports import DeadLetter, ReplayOutcome
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.streams import DEAD_LETTERS
from fleetward.wire.mqtt_topics import ROOT

log = get_logger("dead-letters")

SUBJECT_PREFIX = "deadletters."
TOLD_AS = "deadletter.added"
_MAX_REASON_CHARS = 400
_MAX_SUBJECT_CHARS = 512
# In base64 and with what else stands in a letter, within what NATS takes. What may be handled is smaller.
MAX_PAYLOAD_KEPT = 88 * 1024
_NOBODY = "-"

OnDeadLetter = Callable[[str, str | None, str, str], None]
Replay = Callable[[str, int, datetime, bytes], Awaitable[None]]


class Kept(msgspec.Struct, frozen=True):
    """A dead letter as the stream holds it; `payload` is base64 in its JSON."""

    consumer: str
    subject: str
    device: str | None
    sequence: int
    received_at: str
    failed_at: str
    failures: int
    reason: str
    payload: bytes


_decode = msgspec.json.Decoder(Kept).decode


class DeadLetterBox:
    """Puts dead letters away, and plays those of this process's consumers again when asked."""

    def __init__(
        self, connection: NatsConnection, js: JetStreamContext, clock: Clock, on_dead: OnDeadLetter
    ) -> None:
        """Prepare.

        Args:
            on_dead: told consumer, device, subject and reason of each; must not block.
        """
        self._connection = connection
        self._js = js
        self._clock = clock
        self._on_dead = on_dead

    async def put(
        self,
        consumer: str,
        *,
        subject: str,
        sequence: int,
        at: datetime,
        payload: bytes,
        error: Exception,
        failures: int,
        is_told: bool = True,
    ) -> None:
        """Keep a message with why it failed; again with the same number and time, once.

        Args:
            is_told: False where telling of it would bring about the next one.

        Raises:
            nats.errors.Error: it is not kept.
        """
        device = _device_of(subject)
        if len(payload) > MAX_PAYLOAD_KEPT:
            failure = f"its {len(payload)} bytes are too many to keep; {type(error).__name__}: {error}"
            payload = b""
        else:
            failure = f"{type(error).__name__}: {error}"
        letter = Kept(
            consumer,
            _printable(subject, _MAX_SUBJECT_CHARS),
            device,
            sequence,
            at.isoformat(),  # to the microsecond: a repeat is known by it
            render_time(self._clock.now()),
            failures,
            _printable(failure, _MAX_REASON_CHARS),
            payload,
        )
        headers = {Header.MSG_ID.value: f"{consumer}-{sequence}-{at.timestamp():.6f}"} if sequence else None
        await self._js.publish(
            f"{SUBJECT_PREFIX}{consumer}.{device or _NOBODY}", msgspec.json.encode(letter), headers=headers
        )
        if is_told:
            self._on_dead(consumer, device, letter.subject, letter.reason)

    async def serve_replays(self, consumer: str, replay: Replay) -> None:
        """Answer requests to play a dead letter of `consumer` again, from now on."""

        async def answer(request: Msg) -> None:
            outcome = await self._play(int(request.data), replay)
            await request.respond(msgspec.json.encode(outcome))

        await self._connection.follow(replay_subject(consumer), answer, queue=consumer)

    async def _play(self, number: int, replay: Replay) -> ReplayOutcome:
        """Handle a dead letter once more; it leaves the stream only when that went well."""
        try:
            found = await self._js.get_msg(DEAD_LETTERS, number)
            letter = _decode(found.data or b"")
            await replay(letter.subject, letter.sequence, parse_time(letter.received_at), letter.payload)
            await self._js.delete_msg(DEAD_LETTERS, number)
        except NoSuchMessageError:
            return ReplayOutcome(handled=False, reason="it is not there any more")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            log.warning("replay_failed", number=number, error=type(error).__name__)
            return ReplayOutcome(handled=False, reason=_printable(str(error), _MAX_REASON_CHARS))
        return ReplayOutcome(handled=True)


def replay_subject(consumer: str) -> str:
    """Return where to ask for a dead letter of a consumer to be played again."""
    return f"fleet.deadletters.replay.{consumer}"


def parse_letter(number: int, content: bytes) -> DeadLetter:
    """Return the dead letter that lies under `number`."""
    kept = _decode(content)
    return DeadLetter(
        number,
        kept.consumer,
        kept.subject,
        kept.device,
        kept.received_at,
        kept.failed_at,
        kept.failures,
        kept.reason,
        kept.payload,
    )


def _device_of(subject: str) -> str | None:
    """Return the device whose topic a subject ends in, with or without the broker's prefix."""
    levels = subject.removeprefix("$MQTT.msgs.").split(".")
    return levels[1] if len(levels) > 1 and levels[0] == ROOT else None


def _printable(text: str, most: int) -> str:
    return "".join(one if one.isprintable() else "�" for one in text[:most])
