"""Who is connected, for people and for the rooms above: the bucket `presence` and the events of sessions.

Several processes share the advisories, each goes to one of them. What was missed while none ran is put right
at the start by comparing the bucket with the connections there are.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from fleetward.base.clock import Clock, parse_time, render_time
from fleetward.base.db import Database
from fleetward.base.errors import InvalidInputError
from fleetward.base.logging import get_logger
from fleetward.features.messaging import service
from fleetward.features.messaging.model import Presence, Refusal, find_refusal
from fleetward.outside.nats.connection import NatsConnection, retry
from fleetward.outside.nats.kv import BucketMirror
from fleetward.outside.nats.mirror import AdmissionMirror
from fleetward.outside.nats.sessions import (
    CONNECTED,
    DISCONNECTED,
    Ended,
    LiveSession,
    LiveSessions,
    parse_advisory,
)
from fleetward.outside.nats.streams import PRESENCE_BUCKET

log = get_logger("presence")

SESSION_ENDED_PREFIX = "fleet.session.ended."
_QUEUE = "presence"
_BATCH = 500
_GRANT_WAIT_S = 2.0
_GRANT_LOOK_S = 0.01
_KICKED = "Kicked"
_REPLACED = "Duplicate Client ID"
_EXPIRED = "Authentication Expired"
# nats-server's words, to ours.
_REASONS = {
    "Client Closed": "it hung up",
    _EXPIRED: "its certificate or appraisal expired",
    _KICKED: "it was cut off",
    "Server Shutdown": "the broker stopped",
    "Stale Connection": "it fell silent",
    "Read Error": "its network failed",
    "Write Error": "its network failed",
    _REPLACED: "another connection took its place",
}
_TAKEOVERS_BEFORE_ALARM = 3
_TAKEOVER_WINDOW_S = 60.0
_REMEMBERED_SERIALS = 8


class PresenceMirror(BucketMirror[Presence]):
    """The presence of every device in memory."""

    def __init__(self, connection: NatsConnection, js: JetStreamContext) -> None:
        super().__init__(
            connection,
            js,
            bucket=PRESENCE_BUCKET,
            kind=Presence,
            is_older=lambda found, known: found.since < known.since,
        )


async def publish_session_ended(
    platform: NatsConnection, device: str, refusal: Refusal, *, serials: frozenset[str] = frozenset()
) -> None:
    """Tell every process that the device's session has ended: video closes with it.

    Args:
        serials: of the certificates whose lines end, the device's others go on; none for all lines.
    """
    content = {
        "device": device,
        "reason": refusal.code.value,
        "message": refusal.finding,
        "serials": sorted(serials),
    }
    await platform.client.publish(f"{SESSION_ENDED_PREFIX}{device}", msgspec.json.encode(content))


class PresenceRecorder:
    """Keeps the bucket, and tells of sessions that opened, closed or were taken over."""

    def __init__(
        self,
        *,
        db: Database,
        threads: Executor,
        clock: Clock,
        platform: NatsConnection,
        system: NatsConnection,
        admission: AdmissionMirror,
        presence: PresenceMirror,
        live: LiveSessions,
        on_takeover: Callable[[LiveSession, int], None],
        on_open: Callable[[str], None],
    ) -> None:
        """Prepare the recorder.

        Args:
            live: the sessions there are.
            on_takeover: told when clients from two places, or again and again, use one device's certificate.
            on_open: told each device whose session opened.
        """
        self._db = db
        self._threads = threads
        self._clock = clock
        self._platform = platform
        self._system = system
        self._admission = admission
        self._presence = presence
        self._live = live
        self._on_takeover = on_takeover
        self._on_open = on_open
        self._queue: asyncio.Queue[LiveSession | Ended] = asyncio.Queue()
        self._takeovers: dict[str, deque[float]] = {}
        self._replaced_serials: dict[str, deque[str]] = {}

    async def start(self) -> None:
        """Follow the advisories and put right what was missed."""
        await self._system.follow(CONNECTED, self._on_advisory, queue=_QUEUE)
        await self._system.follow(DISCONNECTED, self._on_advisory, queue=_QUEUE)
        await self.reconcile()
        self._system.on_reconnect.append(self.reconcile)

    async def reconcile(self) -> None:
        """Compare the bucket with the connections there are, and record the difference.

        A renewed device may have connected while nobody listened, and what it replaced is live still.
        """
        await self._retire_replaced()
        live = {session.device: session for session in self._live.all()}
        for known in self._presence.values():
            if known.is_connected and known.device not in live:
                self._queue.put_nowait(
                    Ended(_session_of(known), self._clock.now(), "unknown, it was not seen")
                )
        for session in live.values():
            known_now = self._presence.find(session.device)
            if known_now is None or known_now.connection != session.key:
                self._queue.put_nowait(session)

    async def run(self) -> None:
        """Record until cancelled, many at once."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._await_grants(batch)
            await self._record(batch)

    async def _await_grants(self, batch: list[LiveSession | Ended]) -> None:
        """Wait a moment until it is known on which certificates sessions opened.

        The callout tells it before a session begins, but by another connection than that of the advisories:
        it may come later. A session noted without it would retire no certificate that its own has replaced.
        """
        opened = [one for one in batch if isinstance(one, LiveSession) and not one.fingerprint]
        until_s = time.monotonic() + _GRANT_WAIT_S
        while (  # noqa: ASYNC110 - rarely more than once
            not all(self._live.serial_of(one.key) for one in opened) and time.monotonic() < until_s
        ):
            await asyncio.sleep(_GRANT_LOOK_S)

    async def _record(self, batch: list[LiveSession | Ended]) -> None:
        """Work out once what a batch comes to, then make it so until it is: bucket, lines, events."""
        puts: dict[str, Presence] = {}
        closed: list[tuple[str, Refusal]] = []
        told = [
            self._end(item, puts, closed) if isinstance(item, Ended) else self._open(item, puts)
            for item in batch
        ]
        changes = [change for change in told if change is not None]
        await retry(partial(self._presence.put_all, puts.values()), what="presence")
        for device, refusal in closed:
            await retry(partial(publish_session_ended, self._platform, device, refusal), what="presence")
        await retry(partial(self._keep, changes), what="sessions")

    async def _keep(self, changes: list[service.SessionChange]) -> None:
        """Write down what the bucket says already: that is not told again when the database was away."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._write, changes)

    def _open(self, session: LiveSession, puts: dict[str, Presence]) -> service.SessionChange | None:
        known = puts.get(session.device) or self._presence.find(session.device)
        is_known = known is not None and known.connection == session.key
        if known is not None and is_known and known.is_connected:
            return None  # nats-server tells of every connection again when it reads its configuration
        if not is_known:
            puts[session.device] = Presence(
                session.device,
                is_connected=True,
                since=render_time(session.since),
                address=session.address,
                connection=session.key,
            )
            self._on_open(session.device)
        return self._opened(session)

    def _end(
        self, ended: Ended, puts: dict[str, Presence], closed: list[tuple[str, Refusal]]
    ) -> service.SessionChange:
        session = ended.session
        reason = _REASONS.get(ended.reason, ended.reason)
        refusal = self._refusal_of(session)
        if refusal is not None and ended.reason in (_KICKED, _EXPIRED):
            reason = refusal.finding.rstrip(".")
        if refusal is not None and ended.reason == _EXPIRED:
            closed.append((session.device, refusal))
        known = puts.get(session.device) or self._presence.find(session.device)
        if ended.reason == _REPLACED:
            self._note_takeover(session, known)
        elif known is None or known.connection in ("", session.key) or not known.is_connected:
            puts[session.device] = Presence(
                session.device,
                since=render_time(ended.at),
                address=session.address,
                reason=reason,
                connection=session.key,
            )
        return replace(self._opened(session), is_open=False, at=ended.at, reason=reason)

    def _refusal_of(self, session: LiveSession) -> Refusal | None:
        shown = self._live.certificate_of(session)
        return find_refusal(self._admission.find(session.device), shown, self._clock.now())

    def _opened(self, session: LiveSession) -> service.SessionChange:
        return service.SessionChange(
            device=session.device,
            is_open=True,
            at=session.since,
            address=session.address,
            serial=self._live.serial_of(session.key),
        )

    def _note_takeover(self, old: LiveSession, known: Presence | None) -> None:
        """Raise the alarm when the one who took over came from elsewhere, or when it goes on and on.

        A device that renewed hands over to its new certificate, once: that counts for nothing.
        """
        now_s = time.monotonic()
        recent = self._takeovers.setdefault(old.device, deque(maxlen=_TAKEOVERS_BEFORE_ALARM))
        if not self._is_handed_over(old):
            recent.append(now_s)
        is_elsewhere = known is not None and known.is_connected and known.address != old.address
        is_often = len(recent) == _TAKEOVERS_BEFORE_ALARM and now_s - recent[0] < _TAKEOVER_WINDOW_S
        if is_elsewhere or is_often:
            self._on_takeover(old, len(recent))

    def _is_handed_over(self, old: LiveSession) -> bool:
        """Whether the newest session is on a certificate that no earlier session of the device was on."""
        others = [one for one in self._live.of_device(old.device) if one.key != old.key]
        serial = self._live.serial_of(old.key)
        replaced = self._replaced_serials.setdefault(old.device, deque(maxlen=_REMEMBERED_SERIALS))
        if serial not in replaced:
            replaced.append(serial)
        newest = max(others, key=lambda one: one.since, default=None)
        found = "" if newest is None else self._live.serial_of(newest.key)
        return bool(found) and found not in replaced

    def _write(self, changes: list[service.SessionChange]) -> None:
        with self._db.write("system:messaging") as tx:
            service.record_session_changes(tx, changes)

    async def _retire_replaced(self) -> None:
        loop = asyncio.get_running_loop()
        sessions = [one for one in self._live.all() if one.fingerprint]
        for start in range(0, len(sessions), _BATCH):
            page = {one.device: one.fingerprint for one in sessions[start : start + _BATCH]}
            used = await loop.run_in_executor(self._threads, self._find_used, page)
            if used:
                self._live.identify({shown: f"{serial:x}" for shown, serial in used.items()})
                await loop.run_in_executor(self._threads, self._retire, list(used.values()))

    def _find_used(self, shown: dict[str, str]) -> dict[str, int]:
        with self._db.read() as tx:
            return service.list_used_of_several(tx, shown)

    def _retire(self, used: list[int]) -> None:
        with self._db.write("system:messaging") as tx:
            service.retire_replaced(tx, used)

    async def _on_advisory(self, message: Msg) -> None:
        try:
            found = parse_advisory(message.data)
        except InvalidInputError as error:
            log.warning("advisory_unreadable", reason=error.message)
            return
        if found is not None:
            self._queue.put_nowait(found)


def _session_of(presence: Presence) -> LiveSession:
    server, _, connection = presence.connection.rpartition(":")
    return LiveSession(presence.device, server, int(connection), presence.address, parse_time(presence.since))
