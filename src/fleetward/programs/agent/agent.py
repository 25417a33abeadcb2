"""The agent itself: what its parts tell each other."""

import time
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

import msgspec

from fleetward import __version__
from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.errors import InvalidInputError
from fleetward.features.enrollment import device as enrollment
from fleetward.outside.mqtt.link import Refused
from fleetward.outside.spool.spool import Spool
from fleetward.outside.tls.client import TlsIdentity
from fleetward.programs.agent import inbox, orders
from fleetward.programs.agent.attester import Attester
from fleetward.programs.agent.health import measure_health
from fleetward.programs.agent.identity import Identity
from fleetward.programs.agent.keys import DeviceKeys, KeyTrouble, open_device_keys
from fleetward.programs.agent.loop import Timer, Worker
from fleetward.programs.agent.parts import Parts
from fleetward.programs.agent.session import Session
from fleetward.programs.agent.shadow import Shadow
from fleetward.programs.agent.updating import Updating
from fleetward.wire.command import Command
from fleetward.wire.mqtt_topics import TopicKind

if TYPE_CHECKING:
    from fleetward.programs.agent.video import VideoLine

_STATUS_EVERY_S = 10.0
_STATUS_DELAY_S = 0.1
_KEYS_PAUSE_S = 5.0
_FORWARD_EVERY_S = 30.0
_MAX_BATCHES = 4
# Forwarding these would make more of them.
_NOT_FORWARDED = frozenset({"message_dropped", "queue_trouble"})


class Agent:
    """One device's agent. Everything runs in the loop's thread.

    Attributes:
        is_reboot_wanted: whether it ended to reboot the device.
    """

    def __init__(self, parts: Parts, *, is_degraded: bool) -> None:
        """Open the queue and the application's socket.

        Raises:
            ConfigError: the state folder cannot be used.
        """
        config = parts.config
        self.is_reboot_wanted = False
        self._parts = parts
        self._is_degraded = is_degraded
        self._started_s = time.monotonic()
        self._spool = Spool(config.state_dir / "spool.sqlite3", max_bytes=config.spool.max_bytes)
        self._session = Session(parts, self._spool, commands=orders.NAMES)
        about = {"version": __version__, "tier": _tier(parts), "degraded": is_degraded}
        self._shadow = Shadow(parts, self._session, about=about)
        self._batches = BoundedSemaphore(_MAX_BATCHES)
        self._inbox = inbox.Inbox(config.agent_socket, self._on_batch)
        self._keys_worker = Worker(parts.loop, "keys")
        self._identity: Identity | None = None
        self._attester: Attester | None = None
        self._updating: Updating | None = None
        self._video: VideoLine | None = None
        self._keys_trouble = ""
        self._health: Timer | None = None
        self._status_timer: Timer | None = None
        self._forwarded: dict[str, tuple[float, int]] = {}
        self._application = "unknown"
        parts.log.forward = lambda entry: parts.loop.post(lambda: self._forward(entry))
        self._session.run_command = self._run_command
        self._session.on_connected = self._on_connected
        self._session.on_refused = self._on_refused
        self._session.on_change = self._on_change
        self._shadow.on_interval = lambda _seconds: self._beat()

    def start(self) -> None:
        self._parts.log.info("agent_started", version=__version__, degraded=self._is_degraded)
        if self._spool.was_reset:
            self._parts.log.error(
                "queue_reset", reason="the queue's file was unreadable; it lies beside the new one"
            )
        self._inbox.start()
        self._shadow.start()
        self._beat()
        self._write_status()
        self._open_keys()

    def stop(self) -> None:
        """Close everything in good order, within two seconds."""
        self._parts.log.info("agent_stopped", reboot=self.is_reboot_wanted)
        self._parts.log.forward = None
        self._inbox.close()
        if self._video is not None:
            self._video.stop()
        self._session.close()
        self._parts.http.close()
        self._store_status("stopped")
        self._spool.close()

    def _open_keys(self) -> None:
        self._keys_worker.submit(lambda: open_device_keys(self._parts.config), self._on_keys)

    def _on_keys(self, keys: DeviceKeys | KeyTrouble) -> None:
        if isinstance(keys, KeyTrouble):
            self._keys_trouble = keys.reason
            self._parts.log.error("keys_unavailable", reason=keys.reason)
            self._parts.loop.after(_KEYS_PAUSE_S, self._open_keys)
            return
        self._keys_trouble = ""
        attester = None
        if keys.chip is not None:
            attester = Attester(self._parts, keys.chip, self._live)
            attester.on_verdict = self._on_verdict
        identity = Identity(
            self._parts, keys.store, keys.settings, None if attester is None else attester.prove
        )
        self._identity, self._attester = identity, attester
        identity.on_switch, identity.on_change = self._on_switch, self._on_change
        # A session before the first verdict would only be refused.
        self._session.may_connect = lambda: (
            identity.live() is not None and (attester is None or attester.last is not None)
        )
        live = identity.live()
        if live is not None:
            self._on_switch(live)
        identity.start()
        self._start_updates(keys)
        self._prepare_video()

    def _start_updates(self, keys: DeviceKeys) -> None:
        firmware = self._parts.config.firmware
        if firmware is None:
            return
        self._updating = Updating(
            self._parts,
            firmware,
            chip=keys.chip,
            identity=self._live,
            session=self._session,
            shadow=self._shadow,
            reboot=self._reboot,
        )
        self._updating.start()

    def _prepare_video(self) -> None:
        video = self._parts.config.video
        if video is not None and not self._is_degraded:
            from fleetward.programs.agent.video import VideoLine  # noqa: PLC0415 - only cameras pay for it

            self._video = VideoLine(self._parts, video, self._live)

    def _live(self) -> TlsIdentity | None:
        return None if self._identity is None else self._identity.live()

    def _on_switch(self, identity: TlsIdentity) -> None:
        self._session.connect(identity)
        if self._attester is not None:
            self._attester.consider()

    def _on_verdict(self) -> None:
        self._session.connect_now()
        self._on_change()

    def _on_connected(self, label: str) -> None:
        if self._identity is not None:
            self._identity.tell(enrollment.Connected(label))
        if self._video is not None:
            self._video.on_session(label)

    def _on_refused(self, label: str, refused: Refused) -> None:
        if self._identity is None:
            return
        if refused.failure.is_clock_suspect:
            self._identity.tell(enrollment.ClockDoubted())
        if refused.failure.is_certificate_refused:
            self._identity.tell(enrollment.HandshakeRefused(label, refused.failure.reason))
        if refused.is_policy and self._attester is not None:
            self._attester.doubt()

    def _on_batch(self, batch: list[bytes]) -> None:
        """Take datagrams in the inbox's thread; it waits while too many are under way."""
        self._batches.acquire()
        self._parts.loop.post(lambda: self._take(batch))

    def _take(self, batch: list[bytes]) -> None:
        self._batches.release()
        for datagram in batch:
            try:
                self._take_note(inbox.parse_note(datagram))
            except InvalidInputError as error:
                self._parts.log.warning("application_message_unusable", reason=error.message)

    def _take_note(self, note: inbox.Note) -> None:
        match note:
            case inbox.Measured(stream, value):
                self._session.put_reading(TopicKind.TELEMETRY, stream, value)
            case inbox.Logged(value):
                self._session.put_reading(TopicKind.LOG, "", value)
            case inbox.Stated(report):
                for section, state in report.items():
                    self._shadow.state_of(section, state)
            case inbox.Felt(health, reason):
                self._take_health(health, reason)

    def _take_health(self, health: str, reason: str) -> None:
        is_new = health != self._application
        self._application = health
        if is_new:
            self._parts.log.info("application_health", health=health, reason=reason)
            self._on_change()
        if self._updating is not None and (is_new or self._updating.is_on_trial):
            self._updating.report_health(is_healthy=health == "ok", reason=reason)

    def _run_command(self, command: Command) -> None:
        abilities = orders.Abilities(
            attest=None if self._attester is None else self._attester.ask,
            renew=self._renew,
            update=None if self._updating is None else self._updating.check_now,
            report=self._report_health,
            reboot=lambda: self._reboot("an operator commanded it"),
        )
        orders.perform(
            self._parts, abilities, command, lambda result: self._session.finish_command(command, result)
        )

    def _renew(self) -> str:
        if self._identity is None or self._identity.current is None:
            return "this device has no certificate to renew"
        self._identity.tell(enrollment.RenewalAsked())
        return ""

    def _reboot(self, reason: str) -> None:
        self._parts.log.warning("reboot", reason=reason)
        self.is_reboot_wanted = True
        self._parts.loop.stop()

    def _beat(self) -> None:
        if self._health is not None:
            self._health.cancel()
        self._health = self._parts.loop.after(self._shadow.interval_s, self._beat)
        self._report_health()

    def _report_health(self) -> dict[str, Any]:
        health = measure_health(self._started_s, self._parts.config.state_dir)
        health |= {"queued_bytes": self._spool.stored_bytes, "degraded": self._is_degraded}
        self._session.put_reading(TopicKind.METRICS, "", health)
        return health

    def _forward(self, entry: dict[str, object]) -> None:
        """Send a warning to the platform: one of a name in 30 s, with a count of those left out."""
        name = str(entry["event"])
        last_s, left_out = self._forwarded.get(name, (float("-inf"), 0))
        now_s = time.monotonic()
        if name in _NOT_FORWARDED:
            return
        if now_s - last_s < _FORWARD_EVERY_S:
            self._forwarded[name] = (last_s, left_out + 1)
            return
        self._forwarded[name] = (now_s, 0)
        self._session.put_reading(TopicKind.LOG, "", {**entry, "repeated": left_out} if left_out else entry)

    def _write_status(self, delay_s: float = 0.0) -> None:
        """Write the status in `delay_s`, and from then on every ten seconds."""
        if self._status_timer is not None:
            self._status_timer.cancel()
        if delay_s:
            self._status_timer = self._parts.loop.after(delay_s, self._write_status)
            return
        self._store_status("running")
        self._status_timer = self._parts.loop.after(_STATUS_EVERY_S, self._write_status)

    def _on_change(self) -> None:
        self._write_status(_STATUS_DELAY_S)

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
            "attestation": None if self._attester is None else _verdict(self._attester),
            "updates": None if self._updating is None else {"trouble": self._updating.trouble},
            "application": self._application,
        }


def _verdict(attester: Attester) -> dict[str, Any]:
    last = attester.last
    if last is None:
        return {"good": None}
    until = render_time_or_none(last.expires_at)
    return {"good": until is not None, "until": until, "reason": last.reason}


def _tier(parts: Parts) -> str:
    return str(parts.config.keys.__struct_config__.tag)
