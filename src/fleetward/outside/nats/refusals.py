"""Turns refusals into events: of the callout, of nats-server's log, of ingest. Nobody can flood the table."""

import asyncio
import time
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fleetward.base.db import Database
from fleetward.base.errors import InvalidInputError
from fleetward.base.events import Severity
from fleetward.base.ids import parse_device_id
from fleetward.base.limiting.repeats import Repeats
from fleetward.base.logging import get_logger
from fleetward.features.messaging import service
from fleetward.features.messaging.intake.flood import WINDOW_S, FloodWatch, Patience
from fleetward.features.messaging.intake.limit import TOLD
from fleetward.features.messaging.model import Refusal, RefusalCode
from fleetward.outside.nats.connection import retry
from fleetward.outside.nats.mirror import AdmissionMirror
from fleetward.outside.nats.server_log import PublishCut, TlsRefused, TopicRefused, parse_log_line
from fleetward.outside.nats.sessions import LiveSession
from fleetward.wire.mqtt_topics import ROOT, mqtt_topic
from fleetward.wire.nats_jwt import AuthorizationRequest

log = get_logger("refusals")

_MAX_QUEUED = 5_000
_BATCH = 200
_MAX_DETAIL_CHARS = 200
_WHY = {
    "certificate_expired": "its certificate has expired",
    "unknown_authority": "its certificate comes from an authority we do not know",
    "wrong_key_usage": "its certificate is not one for clients",
    "no_certificate": "it showed no certificate",
    "legacy_tls": "it offered only outdated TLS versions",
    "plaintext": "it spoke without TLS",
    "weak_ciphers": "it offered no acceptable cipher",
    "key_not_possessed": "it does not hold the key of the certificate it showed",
    "certificate_invalid": "its certificate is not valid",
    "handshake_failed": "the handshake failed",
}


@dataclass(frozen=True)
class _Flood:
    device: str
    what: str


@dataclass(frozen=True)
class _Row:
    kind: str
    message: str
    device: str | None
    severity: Severity
    repeats: int
    details: dict[str, Any] = field(default_factory=dict)


class RefusalRecorder:
    """Takes refusals from the event loop and writes them in batches; who is refused too much is held back."""

    def __init__(self, db: Database, threads: Executor, admission: AdmissionMirror) -> None:
        self._db = db
        self._threads = threads
        self._admission = admission
        self._repeats = Repeats()
        self._patience = Patience()
        self._floods = FloodWatch(self._patience)
        self._queue: asyncio.Queue[_Row | _Flood] = asyncio.Queue(_MAX_QUEUED)

    async def run(self) -> None:
        """Write until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())

            async def write(rows: list[_Row | _Flood]) -> None:
                await loop.run_in_executor(self._threads, self._write, rows)

            await retry(partial(write, batch), what="refusals")

    def note_session(self, request: AuthorizationRequest, refusal: Refusal) -> None:
        """Record that the callout refused a connection."""
        severity = Severity.CRITICAL if self._is_attack(request, refusal) else Severity.WARNING
        self._add(
            "session.refused",
            (refusal.device or request.address, refusal.code.value, severity.value),
            refusal.finding,
            device=refusal.device,
            severity=severity,
            reason=refusal.code.value,
            address=request.address,
            client_id=request.mqtt_client[:_MAX_DETAIL_CHARS],
        )

    def _is_attack(self, request: AuthorizationRequest, refusal: Refusal) -> bool:
        """Whether it looks like an attack rather than a mishap: a revoked certificate, another's name."""
        if refusal.code is RefusalCode.CLIENT_ID_MISMATCH:
            return self._known_device(request.mqtt_client) is not None
        return refusal.code is RefusalCode.CERTIFICATE_REVOKED

    def note_takeover(self, old: LiveSession, count: int) -> None:
        """Record that another client used the certificate of a device that was connected."""
        self._add(
            "session.conflicted",
            (old.device,),
            f"Another client took over the session of device {old.device} with its certificate: "
            "the device reconnects in a loop, or its key was copied.",
            device=old.device,
            severity=Severity.CRITICAL,
            address=old.address,
            takeovers=count,
        )

    async def follow_log(self, lines: asyncio.Queue[str]) -> None:
        """Record the refusals that lines of nats-server's log tell of, until cancelled."""
        while True:
            found = parse_log_line(await lines.get())
            if isinstance(found, TlsRefused):
                self._note_tls(found)
            elif isinstance(found, TopicRefused):
                self._note_topic(found)
            elif isinstance(found, PublishCut):
                self._note_cut(found)

    def note_message(self, device: str, topic: str, reason: str, *, size: int) -> None:
        """Record that a device sent something that cannot be accepted."""
        self._add(
            "telemetry.refused",
            (device,),
            f"A message of device {device} on {topic[:_MAX_DETAIL_CHARS]} was refused: {reason}",
            device=device,
            severity=Severity.WARNING,
            topic=topic[:_MAX_DETAIL_CHARS],
            bytes=size,
        )
        self.note_refused(device, size=size)

    def note_refused(self, device: str, *, messages: int = 1, size: int = 0) -> None:
        """Count what a device was refused, told or not; it is held back when that is too much."""
        if self._floods.note(device, time.monotonic(), messages=messages, size=size):
            most = f"{self._patience.messages} messages or {self._patience.bytes // 1024**2} MiB"
            self.note_flood(device, f"over {most} of it had to be refused within {WINDOW_S:.0f} s")

    def note_flood(self, device: str, what: str) -> None:
        """Have a device held back for a while, and tell: to go on hearing it would cost the others."""
        try:
            self._queue.put_nowait(_Flood(device, what))
        except asyncio.QueueFull:
            log.warning("refusal_waits", kind="device.flooding")  # if it goes on, the next window tells

    def note_limit(self, device: str, limit: str, *, size: int) -> None:
        """Record that a device sends more than it may."""
        if limit != TOLD:  # such a line is kept
            self.note_refused(device, size=size)
        self._add(
            "telemetry.limited",
            (device, limit),
            f"Device {device} is over its budget of {limit}: what it sends beyond is refused.",
            device=device,
            severity=Severity.WARNING,
            limit=limit,
        )

    def note_dead_letter(self, consumer: str, device: str | None, subject: str, reason: str) -> None:
        """Record that a message could not be handled and lies among the dead letters."""
        whose = f"of device {device} " if device else ""
        self._add(
            "deadletter.added",
            (consumer, device or ""),
            f"A message {whose}could not be handled by {consumer} and was set aside.",
            device=device,
            severity=Severity.WARNING,
            consumer=consumer,
            subject=subject[:_MAX_DETAIL_CHARS],
            reason=reason[:_MAX_DETAIL_CHARS],
        )

    def _note_tls(self, refused: TlsRefused) -> None:
        """The name in an unverified certificate is a claim: it counts only when it is one of our devices."""
        device = self._known_device(refused.claimed_name)
        claim = f", claiming to be {device}," if device else ""
        self._add(
            "tls.refused",
            (device or refused.address, refused.reason),
            f"A client at {refused.address}{claim} was refused by the MQTT listener: {_WHY[refused.reason]}.",
            device=device,
            severity=Severity.WARNING,
            reason=refused.reason,
            address=refused.address,
            listener="mqtt",
            claimed_name=(refused.claimed_name or "")[:_MAX_DETAIL_CHARS],
        )

    def _note_topic(self, refused: TopicRefused) -> None:
        topic = mqtt_topic(refused.subject)[:_MAX_DETAIL_CHARS]
        levels = topic.split("/")
        victim = _find_id(levels[1]) if len(levels) > 1 and levels[0] == ROOT else None
        if victim == refused.device:
            victim = None
        self.note_refused(refused.device)
        act = "publish to" if refused.is_publish else "subscribe to"
        whose = f", a topic of device {victim}" if victim else ""
        self._add(
            "publish.refused" if refused.is_publish else "subscribe.refused",
            (refused.device, "of another" if victim else "of none"),
            f"Device {refused.device} tried to {act} {topic}{whose}.",
            device=refused.device,
            severity=Severity.CRITICAL if victim else Severity.WARNING,
            topic=topic,
            victim=victim,
            address=refused.address,
        )

    def _note_cut(self, refused: PublishCut) -> None:
        self.note_refused(refused.device)
        self._add(
            "publish.refused",
            (refused.device, refused.what),
            f"Device {refused.device} published {refused.what}: nats-server ended its connection.",
            device=refused.device,
            severity=Severity.WARNING,
            address=refused.address,
        )

    def _known_device(self, name: str | None) -> str | None:
        device = _find_id(name or "")
        return device if device is not None and self._admission.find(device) is not None else None

    def _add(
        self,
        kind: str,
        key: tuple[str, ...],
        message: str,
        *,
        device: str | None,
        severity: Severity,
        **details: Any,
    ) -> None:
        repeats = self._repeats.admit((kind, *key), time.monotonic())
        if repeats is None:
            return
        try:
            self._queue.put_nowait(_Row(kind, message, device, severity, repeats, details))
        except asyncio.QueueFull:
            log.warning("refusal_waits", kind=kind)
            self._repeats.give_back((kind, *key), repeats)

    def _write(self, rows: list[_Row | _Flood]) -> None:
        with self._db.write("system:messaging") as tx:
            for row in rows:
                if isinstance(row, _Flood):
                    service.hold_flooding(tx, row.device, row.what)
                    continue
                service.record_refusal(
                    tx,
                    row.kind,
                    row.message,
                    device=row.device,
                    severity=row.severity,
                    repeats=row.repeats,
                    **row.details,
                )


def _find_id(text: str) -> str | None:
    """Return `text` when it is a device id."""
    try:
        return parse_device_id(text)
    except InvalidInputError:
        return None
