"""The agent's side of messaging, without I/O: events in, actions out.

What is acknowledged when:
- A record is safe once the durable queue has it on disk; only then may its producer forget it.
- It leaves the queue when the broker's PUBACK for it has arrived, never before. After a lost connection all
  records without PUBACK are sent again, oldest first, with their own message ids; the platform keeps each
  once.
- A command runs at most once. Its result is queued before it is marked finished, and sent again on a repeat.
"""

import random
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from fleetward.base.agent_config import Section
from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_duration
from fleetward.wire.command import Command, CommandResult, parse_command, render_result
from fleetward.wire.mqtt_topics import DOWNWARD, Topic, TopicKind, parse_mqtt_topic
from fleetward.wire.shadow import Desired, Reported, parse_desired, render_shadow, shadow_delta

MAX_IN_FLIGHT = 64
MAX_REMEMBERED_COMMANDS = 256
# Their end is the restart itself: one that was cut off by it has succeeded.
ENDS_BY_RESTART = frozenset({"reboot"})


class Telemetry(Section, frozen=True):
    """How often the agent reports its own health."""

    table: ClassVar[str] = "telemetry"
    interval: str = "30s"

    def check(self) -> None:
        parse_duration(self.interval, what="telemetry.interval")


@dataclass(frozen=True)
class Subscribe:
    """Subscribe to these MQTT topic filters at QoS 1, then call `subscribed`."""

    filters: tuple[str, ...]


@dataclass(frozen=True)
class Enqueue:
    """Put a record into the durable queue. Urgent ones go before all that are not."""

    topic: str
    payload: bytes
    is_urgent: bool


@dataclass(frozen=True)
class RunCommand:
    """Run a command, then call `command_finished`. `SaveState` before it has been done already."""

    command: Command


@dataclass(frozen=True)
class ApplyDesired:
    """Bring the device closer to what is desired, then call `reported` with what it is now."""

    desired: Desired
    delta: dict[str, Any]


@dataclass(frozen=True)
class SaveState:
    """Write these bytes to disk before doing any later action."""

    content: bytes


Action = Subscribe | Enqueue | RunCommand | ApplyDesired | SaveState


class _State(msgspec.Struct, frozen=True):
    """What survives a restart. A command without result was running when it was written."""

    desired_version: int = 0
    reported: Reported = Reported(0, {})
    commands: list[tuple[int, str, CommandResult | None]] = []


class DeviceSession:
    """Shadow and commands of one device. Every method returns what to do, in order."""

    def __init__(self, device_id: str, *, commands: Iterable[str], saved: bytes | None = None) -> None:
        """Start from the bytes of the last `SaveState`, None the first time; damaged ones start afresh.

        Args:
            commands: the names it may be asked to run.
        """
        self._device = device_id
        self._allowed = frozenset(commands)
        state = _parse_state(saved)
        self._desired_version = state.desired_version
        self._reported = state.reported
        self._running: set[int] = set()
        self._commands: OrderedDict[int, tuple[str, CommandResult | None]] = OrderedDict(
            (number, (name, result if result is not None else _result_after_restart(name)))
            for number, name, result in state.commands
        )

    def connected(self) -> list[Action]:
        """Subscribe to everything that comes down."""
        return [Subscribe(tuple(Topic(self._device, kind, "+").mqtt for kind in DOWNWARD))]

    def subscribed(self) -> list[Action]:
        """Say what we are; the platform answers with what it wants and with commands that wait."""
        return [self._report()]

    def received(self, topic: str, payload: bytes, now: datetime) -> list[Action]:
        """Act on a message. Raises InvalidInputError for one that is not for us or makes no sense."""
        found = parse_mqtt_topic(topic)
        if found.device != self._device:
            raise InvalidInputError(f"topic: expected one of {self._device}, found {topic!r}")
        if found.kind is TopicKind.SHADOW_DESIRED:
            return self._on_desired(parse_desired(payload))
        if found.kind is TopicKind.COMMAND:
            return self._on_command(int(found.name), parse_command(payload), now)
        raise InvalidInputError(f"topic: expected a command or desired state, found {topic!r}")

    def command_finished(self, number: int, result: CommandResult) -> list[Action]:
        """Keep a command's result and send it."""
        name, _ = self._commands.get(number, ("", None))
        self._running.discard(number)
        self._remember(number, name, result)
        return [self._result(number, result), self._save()]

    def reported(self, state: dict[str, Any], *, desired_version: int | None = None) -> list[Action]:
        """Send what the device is now, when that changed.

        Args:
            desired_version: of the `ApplyDesired` this answers, None for a change of its own.
        """
        applied = (
            self._desired_version if desired_version is None else max(desired_version, self._desired_version)
        )
        if state == self._reported.state and applied == self._reported.desired_version:
            return []
        self._desired_version = applied
        self._reported = Reported(self._reported.version + 1, state, applied)
        return [self._save(), self._report()]

    def _on_desired(self, desired: Desired) -> list[Action]:
        if desired.version <= self._desired_version:
            return []
        return [ApplyDesired(desired, shadow_delta(desired.state, self._reported.state))]

    def _on_command(self, number: int, command: Command, now: datetime) -> list[Action]:
        if number in self._running:
            return []
        known = self._commands.get(number)
        if known is not None and known[1] is not None:
            return [self._result(number, known[1])]
        refusal = self._refuse(number, command, now)
        if refusal is not None:
            self._remember(number, command.name, refusal)
            return [self._result(number, refusal), self._save()]
        self._running.add(number)
        self._remember(number, command.name, None)
        return [self._save(), RunCommand(command)]

    def _refuse(self, number: int, command: Command, now: datetime) -> CommandResult | None:
        if command.id != number:
            return CommandResult(
                ok=False, error=f"the command says it is {command.id}, its topic says {number}"
            )
        if command.name not in self._allowed:
            return CommandResult(ok=False, error=f"this device has no command {command.name}")
        if now >= command.expires_at:
            return CommandResult(ok=False, error="the command came after its time")
        return None

    def _remember(self, number: int, name: str, result: CommandResult | None) -> None:
        self._commands[number] = (name, result)
        self._commands.move_to_end(number)
        finished = [one for one in self._commands if one not in self._running]
        for old in finished[: max(0, len(self._commands) - MAX_REMEMBERED_COMMANDS)]:
            del self._commands[old]

    def _report(self) -> Enqueue:
        topic = Topic(self._device, TopicKind.SHADOW_REPORTED)
        return Enqueue(topic.mqtt, render_shadow(self._reported), is_urgent=True)

    def _result(self, number: int, result: CommandResult) -> Enqueue:
        topic = Topic(self._device, TopicKind.COMMAND_RESULT, str(number))
        return Enqueue(topic.mqtt, render_result(result), is_urgent=True)

    def _save(self) -> SaveState:
        commands = [(number, name, result) for number, (name, result) in self._commands.items()]
        return SaveState(msgspec.json.encode(_State(self._desired_version, self._reported, commands)))


class OutboundWindow:
    """Which records of the durable queue are under way. Ids grow with the order of sending."""

    def __init__(self, *, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self._max = max_in_flight
        self._is_connected = False
        self._record_of: dict[int, int] = {}

    @property
    def in_flight(self) -> frozenset[int]:
        """Records sent and not acknowledged: the queue gives the next ones besides these."""
        return frozenset(self._record_of.values())

    def room(self) -> int:
        """Return how many more records may be sent now."""
        return self._max - len(self._record_of) if self._is_connected else 0

    def connected(self) -> None:
        self._is_connected = True

    def disconnected(self) -> None:
        """Forget what was under way: everything without PUBACK is sent again."""
        self._is_connected = False
        self._record_of.clear()

    def sent(self, record: int, packet: int) -> None:
        """Note that `record` went out as MQTT packet `packet`."""
        self._record_of[packet] = record

    def acknowledged(self, packet: int) -> int | None:
        """Return the record the queue may delete now, None for a packet of an earlier connection."""
        return self._record_of.pop(packet, None)


class Backoff:
    """How long to wait before the next attempt: exponential with full jitter, so that a fleet spreads out."""

    def __init__(self, *, first_s: float = 0.5, longest_s: float = 60.0, seed: int | None = None) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._attempts = 0
        self._random = random.Random(seed)  # noqa: S311 - spreads load, keeps no secret

    def next_s(self) -> float:
        """Return the seconds to wait, from 0 to a ceiling that doubles with every attempt."""
        ceiling_s = min(self._longest_s, self._first_s * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 32)
        return self._random.uniform(0, ceiling_s)

    def reset(self) -> None:
        """Start from the shortest wait again: a session has held."""
        self._attempts = 0


def _parse_state(saved: bytes | None) -> _State:
    if saved is None:
        return _State()
    try:
        return msgspec.json.decode(saved, type=_State)
    except msgspec.MsgspecError:
        return _State()


def _result_after_restart(name: str) -> CommandResult:
    if name in ENDS_BY_RESTART:
        return CommandResult(ok=True, output="restarted")
    return CommandResult(ok=False, error="the device restarted while it ran")
