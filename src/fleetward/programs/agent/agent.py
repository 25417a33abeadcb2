"""The agent itself: keys, certificate, session and shadow, and a loop over its abilities."""

import time
from collections.abc import Sequence
from functools import partial
from threading import BoundedSemaphore
from typing import Any

import msgspec

from fleetward import __version__
from fleetward.base.clock import render_time
from fleetward.base.errors import InvalidInputError
from fleetward.features.enrollment import device as enrollment
from fleetward.outside.mqtt.link import Refused
from fleetward.outside.spool.spool import Spool
from fleetward.outside.tls.client import TlsIdentity
from fleetward.programs.agent import chip, inbox, orders
from fleetward.programs.agent.abilities.ability import Ability, Reading
from fleetward.programs.agent.edge import Edge
from fleetward.programs.agent.forward import Forwarder
from fleetward.programs.agent.identity import Identity
from fleetward.programs.agent.keys import DeviceKeys, KeyTrouble, open_device_keys
from fleetward.programs.agent.loop import Timer, Worker
from fleetward.programs.agent.parts import Parts
from fleetward.programs.agent.session import Session
from fleetward.programs.agent.shadow import Shadow
from fleetward.wire.command import Command
from fleetward.wire.mqtt_topics import TopicKind

_STATUS_EVERY_S = 10.0
_STATUS_DELAY_S = 0.1
_KEYS_PAUSE_S = 5.0
_MAX_BATCHES = 4


class Agent:
    """One device's agent, and what its abilities may ask of it. Everything runs in the loop's thread.

    Attributes:
        is_reboot_wanted: whether it ended to reboot the device.
    """

    def __init__(self, parts: Parts, *, is_degraded: bool, abilities: Sequence[type[Ability]]) -> None:
        """Open the queue and the application's socket.

        Raises:
            ConfigError: the state folder cannot be used.
        """
        config = parts.config
        self.is_reboot_wanted = False
        self._parts = parts
        self._is_degraded = is_degraded
        self._spool = Spool(config.state_dir / "spool.sqlite3", max_bytes=config.spool.max_bytes)
        self._edge = Edge(abilities, parts, self)
        self._orders = orders.Orders(parts, reboot=self.reboot, renew=self._renew)
        self._session = Session(parts, self._spool, commands=orders.NAMES | self._edge.commands)
        about = {"version": __version__, "tier": _tier(parts), "degraded": is_degraded}
        self._shadow = Shadow(parts, self._session, self._edge, about=about)
        self._batches = BoundedSemaphore(_MAX_BATCHES)
        self._inbox = inbox.Inbox(config.agent_socket, self._on_batch)
        self._worker = Worker(parts.loop, "identity")
        self._identity: Identity | None = None
        self._keys_trouble = ""
        self._status_timer: Timer | None = None
        self._forwarder = Forwarder()
        parts.log.forward = lambda entry: parts.loop.post(lambda: self._forward(entry))
        self._session.run_command = self._run_command
        self._session.on_connected = self._on_connected
        self._session.on_lost = self._edge.on_session_lost
        self._session.on_refused = self._on_refused
        self._session.on_change = self.changed
        self._session.may_connect = self._may_connect

    @property
    def is_degraded(self) -> bool:
        """Whether the boot stage found no firmware it may start."""
        return self._is_degraded

    @property
    def queued_bytes(self) -> int:
        """How much waits for the platform."""
        return self._spool.stored_bytes

    def start(self) -> None:
        self._parts.log.info("agent_started", version=__version__, degraded=self._is_degraded)
        if self._spool.was_reset:
            self._parts.log.error(
                "queue_reset", reason="the queue's file was unreadable; it lies beside the new one"
            )
        self._inbox.start()
        self._edge.start()
        self._shadow.start()
        self._write_status()
        self._open_keys()

    def stop(self) -> None:
        """Close everything in good order, within two seconds."""
        self._parts.log.info("agent_stopped", reboot=self.is_reboot_wanted)
        self._parts.log.forward = None
        self._inbox.close()
        self._edge.stop()
        self._session.close()
        self._parts.http.close()
        self._store_status("stopped")
        self._spool.close()

    def identity(self) -> TlsIdentity | None:
        """Return what to connect with now; None without a valid certificate."""
        return None if self._identity is None else self._identity.live()

    def put(self, reading: Reading) -> None:
        """Send a reading up, through the abilities' stages."""
        left = self._edge.going_up(reading)
        if left is not None:
            self._session.put_reading(left.kind, left.name, left.value)

    def state_of(self, section: str, value: dict[str, Any] | None) -> None:
        """Report `value` as a section of the shadow from now on; None removes it."""
        self._shadow.state_of(section, value)

    def connect_now(self) -> None:
        """Try a session again at once."""
        self._session.connect_now()

    def reboot(self, reason: str) -> None:
        """End the agent so that the device restarts."""
        self._parts.log.warning("reboot", reason=reason)
        self.is_reboot_wanted = True
        self._parts.loop.stop()

    def changed(self) -> None:
        """Write the status file soon."""
        self._write_status(_STATUS_DELAY_S)

    def _open_keys(self) -> None:
        self._worker.submit(lambda: open_device_keys(self._parts.config), self._on_keys)

    def _on_keys(self, keys: DeviceKeys | KeyTrouble) -> None:
        if isinstance(keys, KeyTrouble):
            self._keys_trouble = keys.reason
            self._parts.log.error("keys_unavailable", reason=keys.reason)
            self._parts.loop.after(_KEYS_PAUSE_S, self._open_keys)
            return
        self._keys_trouble = ""
        event_log = self._parts.config.event_log
        prove = None if keys.chip is None else partial(chip.prove, keys.chip, event_log)
        identity = Identity(self._parts, keys.store, keys.settings, prove, self._worker)
        self._identity = identity
        identity.on_switch, identity.on_change = self._on_switch, self.changed
        self._edge.on_keys(keys)
        live = identity.live()
        if live is not None:
            self._on_switch(live)
        identity.start()

    def _may_connect(self) -> bool:
        return self.identity() is not None and self._edge.allows_session()

    def _on_switch(self, identity: TlsIdentity) -> None:
        self._session.connect(identity)
        self._edge.on_identity(identity)

    def _on_connected(self, label: str) -> None:
        if self._identity is not None:
            self._identity.tell(enrollment.Connected(label))
        self._edge.on_session(label)

    def _on_refused(self, label: str, refused: Refused) -> None:
        if self._identity is None:
            return
        if refused.failure.is_clock_suspect:
            self._identity.tell(enrollment.ClockDoubted())
        if refused.failure.is_certificate_refused:
            self._identity.tell(enrollment.HandshakeRefused(label, refused.failure.reason))
        self._edge.on_refused(label, refused)

    def _on_batch(self, batch: list[bytes]) -> None:
        """Take datagrams in the inbox's thread; it waits while too many are under way."""
        self._batches.acquire()
        self._parts.loop.post(lambda: self._take(batch))

    def _take(self, batch: list[bytes]) -> None:
        self._batches.release()
        for datagram in batch:
            try:
                note = self._edge.from_application(inbox.parse_note(datagram))
            except InvalidInputError as error:
                self._parts.log.warning("application_message_unusable", reason=error.message)
                continue
            if note is not None:
                self._take_note(note)

    def _take_note(self, note: inbox.Note) -> None:
        match note:
            case inbox.Measured(stream, value):
                self.put(Reading(TopicKind.TELEMETRY, stream, value))
            case inbox.Logged(value):
                self.put(Reading(TopicKind.LOG, "", value))
            case inbox.Stated(report):
                for section, state in report.items():
                    self._shadow.state_of(section, state)
            case inbox.Felt():
                pass  # for the abilities alone

    def _run_command(self, command: Command) -> None:
        finish = partial(self._session.finish_command, command)
        if command.name in orders.NAMES:
            self._orders.perform(command, finish)
        else:
            self._edge.perform(command, finish)

    def _renew(self) -> str:
        if self._identity is None or self._identity.current is None:
            return "this device has no certificate to renew"
        self._identity.tell(enrollment.RenewalAsked())
        return ""

    def _forward(self, entry: dict[str, object]) -> None:
        """Send a warning to the platform.

        It passes no ability's stage: that an ability has failed must be heard also when its stage has.
        """
        chosen = self._forwarder.choose(entry, time.monotonic())
        if chosen is not None:
            self._session.put_reading(TopicKind.LOG, "", chosen)

    def _write_status(self, delay_s: float = 0.0) -> None:
        """Write the status in `delay_s`, and from then on every ten seconds."""
        if self._status_timer is not None:
            self._status_timer.cancel()
        if delay_s:
            self._status_timer = self._parts.loop.after(delay_s, self._write_status)
            return
        self._store_status("running")
        self._status_timer = self._parts.loop.after(_STATUS_EVERY_S, self._write_status)

    def _store_status(self, state: str) -> None:
        """Replace the status file. It is not worth an fsync: after a power cut it is written anew."""
        path = self._parts.config.status_file
        fresh = path.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode(self._status(state)))
            fresh.replace(path)
        except OSError as error:
            self._parts.log.warning("status_not_stored", reason=error.strerror)

    def _status(self, state: str) -> dict[str, Any]:
        identity = self._identity
        current = None if identity is None else identity.current
        return {
            "state": state,
            "device_id": self._parts.config.device_id,
            "version": __version__,
            "degraded": self._is_degraded,
            "updated_at": render_time(self._parts.clock.now()),
            "clock_corrected": self._parts.clock.is_off(),
            "keys": {"tier": _tier(self._parts), "trouble": self._keys_trouble},
            "enrollment": {
                "phase": "none" if identity is None else identity.phase.value,
                "certificate": None if current is None else current.label,
                "not_after": None if current is None else render_time(current.not_after),
                "last_failure": "" if identity is None else identity.last_failure,
            },
            "session": {"connected": self._session.is_connected, "last_refusal": self._session.last_refusal},
            "queue": {
                "messages": len(self._spool),
                "bytes": self._spool.stored_bytes,
                "in_flight": self._session.in_flight,
                "trouble": self._spool.trouble,
            },
            **self._edge.status(),
        }


def _tier(parts: Parts) -> str:
    return str(parts.config.keys.__struct_config__.tag)
