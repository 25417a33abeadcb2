"""One simulated device, without I/O: times and packets in, actions out.

Shadow and commands are the agent's own (`features.messaging.device`); readings wait here until their PUBACK,
at most `MAX_HELD` of them, the oldest given up first.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleetward.base.clock import render_time
from fleetward.base.errors import InvalidInputError
from fleetward.features.messaging import device as messaging
from fleetward.features.messaging.device import DeviceSession
from fleetward.programs.simulator.fleet.dice import Dice
from fleetward.programs.simulator.fleet.faults import Fault
from fleetward.programs.simulator.fleet.profiles import Profile, measure, report_metrics
from fleetward.wire import mqtt_packets as mqtt
from fleetward.wire.command import Command, CommandResult
from fleetward.wire.mqtt_topics import DOWNWARD, Topic, TopicKind
from fleetward.wire.telemetry import render_reading

MAX_HELD = 64
COMMANDS = frozenset({"ping", "reboot", "report", "renew-now", "update-now"})
_KEEPALIVE_S = 120
_PING_AFTER_S = 75.0
_DEAD_AFTER_S = 240.0
_SUBSCRIBE_NUMBER = 65_535
_LAST_NUMBER = 60_000
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes to the line."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the line; connect again after `pause_s`."""

    pause_s: float


@dataclass(frozen=True, slots=True)
class LookForUpdate:
    pass


@dataclass(frozen=True, slots=True)
class Renew:
    pass


Action = Send | Leave | LookForUpdate | Renew


@dataclass(frozen=True)
class Behaviour:
    """What all devices of a fleet share.

    Attributes:
        run: names this run in message ids, so that those of an earlier one are not taken for repeats.
        started_s: Unix time of the start.
    """

    profile: Profile
    telemetry_s: float
    metrics_s: float
    run: str
    started_s: float


class FleetDevice:
    """Speaks for one device.

    Attributes:
        next_at: Unix time of the next `tick`.
        published, acknowledged, dropped, answered, refused: counts since the start.
    """

    __slots__ = (
        "_behaviour", "_count", "_deferred", "_dice", "_dropping_at", "_foreign", "_heard_at", "_held",
        "_is_live", "_metrics_at", "_number", "_session", "_spoke_at", "_state", "_telemetry_at",
        "acknowledged", "answered", "dropped", "faults", "firmware", "id", "next_at", "published", "refused",
    )  # fmt: skip

    def __init__(
        self,
        device_id: str,
        behaviour: Behaviour,
        dice: Dice,
        *,
        faults: frozenset[Fault] = frozenset(),
        neighbour: str,
        firmware: str,
    ) -> None:
        """Start a device that was never connected.

        Args:
            neighbour: whose topics it tries when it is compromised.
        """
        self.id, self.faults, self.firmware = device_id, faults, firmware
        self.published = self.acknowledged = self.dropped = self.answered = self.refused = 0
        self._behaviour, self._dice, self._foreign = behaviour, dice, neighbour
        self._session = DeviceSession(device_id, commands=COMMANDS)
        self._state: dict[str, Any] = {}
        self._session.reported(self._firmware_state("idle"))
        self._held: dict[int, tuple[str, bytes]] = {}
        self._deferred: list[tuple[float, int, CommandResult]] = []
        self._count = self._number = 0
        self._is_live = False
        self._heard_at = self._spoke_at = 0.0
        self._dropping_at = _NEVER
        start = behaviour.started_s
        self._telemetry_at = start + dice.between(0, behaviour.telemetry_s)
        self._metrics_at = start + dice.between(0, behaviour.metrics_s)
        self._plan()

    @property
    def held(self) -> int:
        """How many messages wait for their PUBACK."""
        return len(self._held)

    def connect_packet(self) -> bytes:
        return mqtt.render_connect(self.id, keepalive_s=_KEEPALIVE_S)

    def accepted(self, now_s: float) -> list[Action]:
        """The broker took the connection: subscribe, and send again what was never acknowledged."""
        self._is_live, self._heard_at = True, now_s
        if Fault.FLAPPING in self.faults:
            self._dropping_at = now_s + self._dice.between(2, 20)
        elif Fault.OFFLINE in self.faults:
            self._dropping_at = now_s + self._dice.between(60, 600)
        filters = [Topic(self.id, kind, "+").mqtt for kind in DOWNWARD]
        packets = [mqtt.render_subscribe(filters, _SUBSCRIBE_NUMBER)]
        if Fault.COMPROMISED in self.faults:
            foreign = Topic(self._foreign, TopicKind.COMMAND, "+").mqtt
            packets.append(mqtt.render_subscribe([foreign], _SUBSCRIBE_NUMBER - 1))
        packets += [
            mqtt.render_publish(topic, payload, number, is_repeat=True)
            for number, (topic, payload) in self._held.items()
        ]
        actions = [*self._send(packets, now_s), *self._after(self._session.connected(), now_s)]
        self._plan()
        return actions

    def lost(self) -> None:
        """The line is gone."""
        self._is_live, self._dropping_at = False, _NEVER
        self._plan()

    def received(self, packet: mqtt.Packet, now_s: float) -> list[Action]:
        """Act on a packet. Raises InvalidInputError for one that makes no sense."""
        self._heard_at = now_s
        self._plan()
        match packet.kind:
            case mqtt.PUBACK:
                if self._held.pop(mqtt.parse_puback(packet), None) is not None:
                    self.acknowledged += 1
            case mqtt.SUBACK:
                return self._on_suback(packet, now_s)
            case mqtt.PUBLISH:
                return self._on_publish(mqtt.parse_publish(packet), now_s)
            case mqtt.PINGRESP:
                pass
            case other:
                raise InvalidInputError(f"MQTT: expected a packet for a client, found type {other}")
        return []

    def tick(self, now_s: float) -> list[Action]:
        """Do what is due. Readings are taken while the line is down as well."""
        actions: list[Action] = []
        behaviour = self._behaviour
        if now_s >= self._telemetry_at:
            self._telemetry_at = now_s + behaviour.telemetry_s * self._dice.between(0.9, 1.1)
            lived_s = now_s - behaviour.started_s
            reading = measure(behaviour.profile, self._dice, now_s, lived_s)
            actions += self._put(TopicKind.TELEMETRY, behaviour.profile.name, reading, now_s)
        if now_s >= self._metrics_at:
            self._metrics_at = now_s + behaviour.metrics_s * self._dice.between(0.9, 1.1)
            actions += self._put(TopicKind.METRICS, "", self._metrics(), now_s)
            if Fault.COMPROMISED in self.faults and self._is_live:
                foreign = Topic(self._foreign, TopicKind.TELEMETRY, "intruder").mqtt
                actions += self._send([mqtt.render_publish(foreign, b'"hello"', 0)], now_s)
        while self._deferred and now_s >= self._deferred[0][0]:
            _, number, result = self._deferred.pop(0)
            actions += self._answer(number, result, now_s)
        actions += self._keep_alive(now_s)
        if self._is_live and now_s >= self._dropping_at:
            away_s = (0.5, 3.0) if Fault.FLAPPING in self.faults else (120.0, 900.0)
            actions.append(Leave(self._dice.between(*away_s)))
        self._plan()
        return actions

    def say_firmware(self, version: str, state: str, now_s: float, *, error: str = "") -> list[Action]:
        """Report the firmware that runs and what the updater does."""
        self.firmware = version
        done = self._after(self._session.reported(self._firmware_state(state, error)), now_s)
        self._plan()
        return done

    def tell(self, kind: str, severity: str, message: str, now_s: float, **details: str) -> list[Action]:
        """Send a log line of a kind that becomes an event, as the agent writes it."""
        level = "error" if severity == "critical" else "info"
        entry = {"event": kind, "level": level, "severity": severity, "message": message, **details}
        return self._put(TopicKind.LOG, "", entry, now_s)

    def _on_suback(self, packet: mqtt.Packet, now_s: float) -> list[Action]:
        codes = mqtt.parse_suback(packet)
        self.refused += codes.count(mqtt.SUBSCRIPTION_REFUSED)
        if mqtt.SUBSCRIPTION_REFUSED in codes:
            return []
        return self._after(self._session.subscribed(), now_s)

    def _on_publish(self, message: mqtt.Publish, now_s: float) -> list[Action]:
        actions = self._send([mqtt.render_puback(message.number)], now_s) if message.number else []
        now = datetime.fromtimestamp(now_s, UTC)
        done = self._after(self._session.received(message.topic, message.payload, now), now_s)
        self._plan()
        return [*actions, *done]

    def _after(self, said: list[messaging.Action], now_s: float) -> list[Action]:
        """Do what the agent's session asks for; its memory is this process's."""
        actions: list[Action] = []
        for one in said:
            match one:
                case messaging.Enqueue():
                    actions += self._hold(one.topic, one.payload, now_s)
                case messaging.RunCommand():
                    actions += self._run(one.command, now_s)
                case messaging.ApplyDesired():
                    self._state |= one.desired.state
                    version = one.desired.version
                    actions += self._after(
                        self._session.reported(dict(self._state), desired_version=version), now_s
                    )
                case messaging.Subscribe() | messaging.SaveState():
                    pass
        return actions

    def _run(self, command: Command, now_s: float) -> list[Action]:
        result = CommandResult(ok=True, output={"at": render_time(datetime.fromtimestamp(now_s, UTC))})
        if Fault.SLOW in self.faults:
            self._deferred.append((now_s + self._dice.between(5, 30), command.id, result))
            self._deferred.sort(key=lambda one: one[0])
            return []
        actions = self._answer(command.id, result, now_s)
        match command.name:
            case "reboot":
                actions.append(Leave(self._dice.between(1, 5)))
            case "renew-now":
                actions.append(Renew())
            case "update-now":
                actions.append(LookForUpdate())
        return actions

    def _answer(self, number: int, result: CommandResult, now_s: float) -> list[Action]:
        self.answered += 1
        return self._after(self._session.command_finished(number, result), now_s)

    def _metrics(self) -> dict[str, Any]:
        behaviour = self._behaviour
        return report_metrics(
            behaviour.profile,
            self._dice,
            report_id=self._count,
            span_s=behaviour.metrics_s,
            is_compromised=Fault.COMPROMISED in self.faults,
        )

    def _put(self, kind: TopicKind, stream: str, value: Any, now_s: float) -> list[Action]:
        self._count += 1
        at = datetime.fromtimestamp(now_s, UTC)
        payload = render_reading(value, message_id=f"{self._behaviour.run}-{self._count}", at=at)
        return self._hold(Topic(self.id, kind, stream).mqtt, payload, now_s)

    def _hold(self, topic: str, payload: bytes, now_s: float) -> list[Action]:
        if len(self._held) >= MAX_HELD:
            del self._held[next(iter(self._held))]
            self.dropped += 1
        self._number = self._number % _LAST_NUMBER + 1
        while self._number in self._held:
            self._number = self._number % _LAST_NUMBER + 1
        self._held[self._number] = (topic, payload)
        self.published += 1
        if not self._is_live:
            return []
        return self._send([mqtt.render_publish(topic, payload, self._number)], now_s)

    def _send(self, packets: list[bytes], now_s: float) -> list[Action]:
        self._spoke_at = now_s
        return [Send(b"".join(packets))]

    def _keep_alive(self, now_s: float) -> list[Action]:
        if not self._is_live:
            return []
        if now_s - self._heard_at > _DEAD_AFTER_S:
            return [Leave(self._dice.between(0, 5))]
        if now_s - min(self._spoke_at, self._heard_at) > _PING_AFTER_S:
            return self._send([mqtt.PINGREQ_PACKET], now_s)
        return []

    def _firmware_state(self, state: str, error: str = "") -> dict[str, Any]:
        section = {"version": self.firmware, "state": state}
        self._state["firmware"] = {**section, "error": error} if error else section
        return dict(self._state)

    def _plan(self) -> None:
        due = [self._telemetry_at, self._metrics_at]
        if self._deferred:
            due.append(self._deferred[0][0])
        if self._is_live:
            due += [self._dropping_at, max(self._spoke_at, self._heard_at) + _PING_AFTER_S]
        self.next_at = min(due)
