"""The device's session: one MQTT connection at a time, what goes up it, and what comes down.

A renewed certificate gets a connection of its own; the old one serves until the broker has accepted the new.
Messages leave the queue only when the broker has acknowledged them.
"""

import secrets
from collections.abc import Callable
from typing import Any

from fleetward.base.errors import FleetwardError, InvalidInputError
from fleetward.base.files import write_atomically
from fleetward.features.messaging import device as d
from fleetward.outside.mqtt import link as mqtt
from fleetward.outside.spool.spool import Kind, Spool
from fleetward.outside.tls.client import TlsIdentity, client_context
from fleetward.programs.agent.loop import Timer
from fleetward.programs.agent.parts import Parts
from fleetward.wire.command import Command, CommandResult
from fleetward.wire.mqtt_topics import Topic, TopicKind
from fleetward.wire.telemetry import render_reading

COMMIT_DELAY_S = 0.05
_TROUBLE_PAUSE_S = 2.0
_STATE = "session.json"
_LONGEST_PAUSE_S = 30.0
_KINDS = {TopicKind.LOG: Kind.LOG, TopicKind.METRICS: Kind.METRICS}


class Session:
    """The way to the platform's broker and back.

    Attributes:
        on_connected: told the label of the certificate the broker accepted.
        on_lost: told that the connection is gone.
        on_refused: told the label and why, each time a connection is not accepted.
        on_change: told that the connection came or went, or that it was refused.
        run_command, apply_desired: perform what the platform wants.
        may_connect: while it says no, nothing is tried.
        last_refusal: why there is no connection; "" when there is one, or none was tried.
    """

    def __init__(self, parts: Parts, spool: Spool, *, commands: frozenset[str]) -> None:
        self.on_connected: Callable[[str], None] = lambda _label: None
        self.on_lost: Callable[[], None] = lambda: None
        self.on_refused: Callable[[str, mqtt.Refused], None] = lambda _label, _refused: None
        self.on_change: Callable[[], None] = lambda: None
        self.run_command: Callable[[Command], None] = lambda _command: None
        self.apply_desired: Callable[[d.ApplyDesired], None] = lambda _wanted: None
        self.may_connect: Callable[[], bool] = lambda: True
        self.last_refusal = ""
        self._parts = parts
        self._spool = spool
        self._state = parts.config.state_dir / _STATE
        saved = self._state.read_bytes() if self._state.exists() else None
        self._machine = d.DeviceSession(parts.config.device_id, commands=commands, saved=saved)
        self._window = d.OutboundWindow()
        self._backoff = d.Backoff(longest_s=_LONGEST_PAUSE_S)
        self._identity: TlsIdentity | None = None
        self._open: mqtt.MqttLink | None = None
        self._open_label = ""
        self._opening: tuple[mqtt.MqttLink, TlsIdentity] | None = None
        self._retry: Timer | None = None
        self._commit: Timer | None = None
        # Names every message of this run; the platform keeps a repeated id once.
        self._run = secrets.token_hex(6)
        self._count = 0

    @property
    def is_connected(self) -> bool:
        return self._open is not None

    @property
    def in_flight(self) -> int:
        return len(self._window.in_flight)

    def connect(self, identity: TlsIdentity) -> None:
        """Connect as `identity`; a connection that is open serves until this one is accepted."""
        self._identity = identity
        self._backoff.reset()
        self.connect_now()

    def connect_now(self) -> None:
        """Try again at once when there is no connection: what stood against it has changed."""
        identity = self._identity
        if identity is None or self._is_under_way(identity):
            return
        if self.may_connect():
            self._begin(identity)
        else:
            self._retry_later()

    def put_reading(self, kind: TopicKind, name: str, value: Any) -> None:
        """Queue a reading or a log line for the platform."""
        now = self._parts.clock.now()
        self._count += 1
        payload = render_reading(value, message_id=f"{self._run}-{self._count}", at=now)
        self._put(
            _KINDS.get(kind, Kind.TELEMETRY), Topic(self._parts.config.device_id, kind, name).mqtt, payload
        )

    def report(self, state: dict[str, Any], *, desired_version: int | None = None) -> None:
        """Say what the device is now, for its shadow."""
        self._act(self._machine.reported(state, desired_version=desired_version))

    def finish_command(self, command: Command, result: CommandResult) -> None:
        self._act(self._machine.command_finished(command.id, result))

    def close(self) -> None:
        """End the connection in good order."""
        for link in (self._open, self._opening[0] if self._opening else None):
            if link is not None:
                link.close()
        if self._open is not None:
            self._open.ended.wait(1.0)

    def _is_under_way(self, identity: TlsIdentity) -> bool:
        if self._opening is not None:
            return self._opening[1] is identity
        return self._open is not None and self._open_label == identity.label

    def _begin(self, identity: TlsIdentity) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        parts = self._parts
        clock = parts.clock if parts.clock.is_off() else None
        try:
            context = client_context(parts.config.ca_file, identity=identity, clock=clock)
        except FleetwardError as error:
            parts.log.warning("session_key_failed", reason=str(error))
            self._retry_later()
            return
        link = mqtt.MqttLink(
            parts.config.mqtt_address,
            client_id=parts.config.device_id,
            context=context,
            tell=lambda link, event: parts.loop.post(lambda: self._on_event(link, event)),
        )
        self._opening = (link, identity)
        link.start()

    def _on_event(self, link: mqtt.MqttLink, event: mqtt.Event) -> None:
        if self._opening is not None and link is self._opening[0]:
            self._on_opening_event(link, self._opening[1], event)
        elif link is self._open:
            self._on_open_event(link, event)
        elif isinstance(event, mqtt.Opened):
            link.close()  # it was given up while it was connecting

    def _on_opening_event(self, link: mqtt.MqttLink, identity: TlsIdentity, event: mqtt.Event) -> None:
        match event:
            case mqtt.Opened():
                old, self._open, self._opening = self._open, link, None
                self._open_label = identity.label
                if old is not None:
                    old.close()
                self.last_refusal = ""
                self._parts.log.info("session_opened", certificate=identity.label)
                self._window.disconnected()
                self._spool.rewind()
                self._act(self._machine.connected())
                self.on_connected(identity.label)
                self.on_change()
            case mqtt.Refused() as refused:
                self._opening = None
                self.last_refusal = refused.failure.reason
                self._parts.log.warning(
                    "session_refused", reason=refused.failure.reason, is_policy=refused.is_policy
                )
                self.on_refused(identity.label, refused)
                self.on_change()
                self._retry_later()
            case _:
                # A message may come before our thread has seen the connection accepted.
                self._on_open_event(link, event)

    def _on_open_event(self, link: mqtt.MqttLink, event: mqtt.Event) -> None:
        match event:
            case mqtt.Subscribed(is_granted):
                if not is_granted:
                    self._parts.log.error("subscription_refused")
                    link.close()
                    return
                self._backoff.reset()
                self._window.connected()
                self._act(self._machine.subscribed())
                self._pump()
            case mqtt.Acknowledged(packet):
                record = self._window.acknowledged(packet)
                if record is not None:
                    self._spool.remove([record])
                    self._commit_soon()
                self._pump()
            case mqtt.Received(packet, topic, payload):
                self._receive(topic, payload)
                link.acknowledge(packet)
            case mqtt.Lost(reason):
                self._open = None
                self._window.disconnected()
                self._parts.log.warning("session_lost", reason=reason)
                self.on_lost()
                self.on_change()
                self._retry_later()

    def _receive(self, topic: str, payload: bytes) -> None:
        try:
            actions = self._machine.received(topic, payload, self._parts.clock.now())
        except InvalidInputError as error:
            self._parts.log.warning("message_unusable", topic=topic[:100], reason=str(error))
            return
        self._act(actions)

    def _act(self, actions: list[d.Action]) -> None:
        for action in actions:
            match action:
                case d.Subscribe(filters):
                    if self._open is not None:
                        self._open.subscribe(filters)
                case d.Enqueue(topic, payload):
                    is_shadow = topic.endswith("/shadow/reported")
                    self._put(Kind.SHADOW if is_shadow else Kind.RESULT, topic, payload)
                    self._flush()
                case d.SaveState(content):
                    self._save(content)
                case d.RunCommand(command):
                    self._parts.log.info("command_started", name=command.name, id=command.id)
                    self.run_command(command)
                case d.ApplyDesired():
                    self.apply_desired(action)

    def _save(self, content: bytes) -> None:
        try:
            write_atomically(self._state, content, mode=0o600)
        except OSError as error:
            # A command may run twice after a crash now; not to run it at all would be worse.
            self._parts.log.warning("session_storage_failed", reason=error.strerror)

    def _put(self, kind: Kind, topic: str, payload: bytes) -> None:
        try:
            self._spool.put(kind, topic, payload, self._parts.clock.now())
        except FleetwardError as error:
            self._parts.log.warning("message_dropped", topic=topic, reason=str(error))
        self._commit_soon()

    def _commit_soon(self) -> None:
        if self._commit is None:
            delay_s = _TROUBLE_PAUSE_S if self._spool.trouble else COMMIT_DELAY_S
            self._commit = self._parts.loop.after(delay_s, self._flush)

    def _flush(self) -> None:
        """Write down what waits, then send what there is room for."""
        if self._commit is not None:
            self._commit.cancel()
            self._commit = None
        before = self._spool.trouble
        if not self._spool.commit():
            self._commit_soon()
        if self._spool.trouble != before:
            self._parts.log.warning("queue_trouble", reason=self._spool.trouble or "over")
        self._pump()

    def _pump(self) -> None:
        room, link = self._window.room(), self._open
        if link is None or room <= 0:
            return
        if self._spool.has_gaps:
            self._report_gaps()
        for item in self._spool.take(room):
            packet = link.publish(item.topic, item.payload)
            if packet is None:
                return
            self._window.sent(item.id, packet)

    def _report_gaps(self) -> None:
        for gap in self._spool.gaps():
            self._count += 1
            now = self._parts.clock.now()
            value = {
                "event": "messages_dropped",
                "level": "warning",
                "topic": gap.topic,
                "count": gap.count,
                "first_at": gap.first_at,
                "last_at": gap.last_at,
            }
            payload = render_reading(value, message_id=f"{self._run}-{self._count}", at=now)
            topic = Topic(self._parts.config.device_id, TopicKind.LOG).mqtt
            if not self._spool.replace_gap(gap, Kind.LOG, topic, payload, now):
                return

    def _retry_later(self) -> None:
        if self._retry is None:
            self._retry = self._parts.loop.after(self._backoff.next_s(), self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self.connect_now()
