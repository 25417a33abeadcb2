"""The worker's part of messaging: it makes the broker follow the registry, and takes in what devices send."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from nats.js import JetStreamContext

from fleetward.base.clock import Clock
from fleetward.base.db import Database
from fleetward.base.feature import Hears
from fleetward.base.logging import get_logger
from fleetward.features.messaging import handlers
from fleetward.features.messaging.intake.batch import Stage
from fleetward.features.messaging.intake.limit import Budgets, Limit
from fleetward.features.messaging.model import Refusal, RefusalCode
from fleetward.outside.nats import events, ingest
from fleetward.outside.nats.connection import NatsConnection, retry
from fleetward.outside.nats.consumer import DurableConsumer
from fleetward.outside.nats.dead_letters import DeadLetterBox
from fleetward.outside.nats.downlink import Downlink
from fleetward.outside.nats.half_received import HalfReceived
from fleetward.outside.nats.hearing import Hearing
from fleetward.outside.nats.mirror import AdmissionMirror
from fleetward.outside.nats.presence import PresenceMirror, PresenceRecorder
from fleetward.outside.nats.refusals import RefusalRecorder
from fleetward.outside.nats.sessions import LiveSession, LiveSessions
from fleetward.outside.nats.streams import EVENTS, MQTT_MESSAGES

log = get_logger("messaging")

_REBUILD_EVERY_S = 3600.0


@dataclass(frozen=True)
class Shared:
    """What all roles of a process use.

    Attributes:
        threads: where SQL runs.
        platform: connection of the account FLEET.
    """

    db: Database
    clock: Clock
    threads: Executor
    platform: NatsConnection
    js: JetStreamContext
    admission: AdmissionMirror
    presence: PresenceMirror
    refusals: RefusalRecorder


@dataclass(frozen=True)
class Lines:
    """Connections that the worker has for itself.

    What devices send comes by two of its own: nats-server ends a connection on which too much waits, and then
    neither revocations nor the callout may be on it.

    Attributes:
        system: of the system account.
        promised, unpromised: by which messages of QoS 1 and 2, and those of QoS 0, come in.
    """

    system: NatsConnection
    promised: NatsConnection
    unpromised: NatsConnection


@dataclass(frozen=True)
class Parts:
    """What features bring into the worker by their doors.

    Attributes:
        hears: events that they act on.
        stages: what the messages of devices pass before they are kept, after the limits.
        told_kinds: kinds of events that a device may tell of in its log.
    """

    hears: tuple[Hears, ...] = ()
    stages: tuple[Stage, ...] = ()
    told_kinds: frozenset[str] = frozenset()


class Worker:
    """Admission, sessions, presence, ingest and commands; several processes may each run one."""

    def __init__(self, shared: Shared, lines: Lines, parts: Parts) -> None:
        self._shared = shared
        system = lines.system
        self.sessions = LiveSessions(
            shared.platform, system, shared.admission, shared.clock, on_kick=_log_kick
        )
        self._downlink = Downlink(shared.db, shared.threads, shared.platform, self.sessions)
        self._presence = PresenceRecorder(
            db=shared.db,
            threads=shared.threads,
            clock=shared.clock,
            platform=shared.platform,
            system=system,
            admission=shared.admission,
            presence=shared.presence,
            live=self.sessions,
            on_takeover=shared.refusals.note_takeover,
            on_open=self._downlink.serve,
        )
        dead_letters = DeadLetterBox(
            shared.platform, shared.js, shared.clock, shared.refusals.note_dead_letter
        )
        self._ingest = ingest.Ingest(
            db=shared.db,
            threads=shared.threads,
            clock=shared.clock,
            platform=shared.platform,
            unpromised=lines.unpromised,
            refusals=shared.refusals,
            downlink=self._downlink,
            dead_letters=dead_letters,
            limit=Limit(Budgets()),
            stages=parts.stages,
            on_flood=self._end_flood,
            told_kinds=parts.told_kinds,
        )
        self._handler = events.EventHandler(
            db=shared.db,
            threads=shared.threads,
            clock=shared.clock,
            platform=shared.platform,
            admission=shared.admission,
            downlink=self._downlink,
        )
        self._consumers = self._make_consumers(lines.promised, dead_letters)
        self._half_received = HalfReceived(
            shared.js, shared.admission, self.sessions, on_flood=self._end_flood
        )
        self._hearings = [
            Hearing(shared.js, shared.db, shared.threads, dead_letters, one) for one in parts.hears
        ]

    def _make_consumers(self, promised: NatsConnection, dead_letters: DeadLetterBox) -> list[DurableConsumer]:
        shared = self._shared
        return [
            DurableConsumer(
                promised,
                shared.js,
                stream=MQTT_MESSAGES,
                name=ingest.NAME,
                subjects=ingest.SUBJECTS,
                handle=self._ingest.handle,
                dead_letters=dead_letters,
                ack_wait_s=10.0,
                gather_s=ingest.GATHER_S,
            ),
            DurableConsumer(
                shared.platform,
                shared.js,
                stream=EVENTS,
                name=events.NAME,
                subjects=events.SUBJECTS,
                handle=self._handler.handle,
                dead_letters=dead_letters,
                ack_wait_s=2.0,  # a revocation waits no longer than that when a process dies over it
            ),
        ]

    def _end_flood(self, device: str, what: str) -> None:
        """End what a device that floods has, at once; the hold that keeps it away takes a moment longer."""
        finding = f"Device {device} was cut off: {what}."
        for session in self.sessions.of_device(device):
            self.sessions.end(session, Refusal(RefusalCode.HELD, finding, device))
        self._shared.refusals.note_flood(device, what)

    async def prepare(self) -> None:
        """Create the durable consumers: from then on no acknowledged message passes us by."""
        for consumer in self._consumers:
            await consumer.create()
        for hearing in self._hearings:
            await hearing.create()

    async def start(self) -> None:
        """Make sure the bucket `admission` speaks of this database, then learn who is connected.

        What the bucket holds is brought up to date by the events that wait in their stream, so that only an
        empty one is drawn afresh before devices may connect; `tasks` checks all of it soon after.
        """
        shared = self._shared
        loop = asyncio.get_running_loop()
        newest = shared.admission.newest_version()  # first: other workers go on writing what is newer
        version = await loop.run_in_executor(shared.threads, handlers.registry_version, shared.db)
        if newest > version:
            log.warning("admission_of_another_database", bucket=newest, database=version)
            await shared.admission.purge()
        if not len(shared.admission):
            await self.rebuild()
        await self.sessions.start()
        await self._presence.start()
        await self._ingest.start()
        for consumer in self._consumers:
            await consumer.start()
        for hearing in self._hearings:
            await hearing.start()

    def tasks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return what runs until the process ends, by name."""
        return {
            **{consumer.name: consumer.run for consumer in self._consumers},
            **{hearing.name: hearing.run for hearing in self._hearings},
            "ingest-qos0": self._ingest.run,
            "presence": self._presence.run,
            "half-received": self._half_received.run,
            "downlink": self._downlink.run,
            "rebuild": self._check_hourly,
        }

    async def rebuild(self) -> None:
        """Bring the bucket `admission` to what SQL says, page by page: whatever was missed is mended."""
        shared = self._shared
        loop = asyncio.get_running_loop()
        after, seen = "", 0
        while True:
            mark = shared.admission.mark()
            page = await loop.run_in_executor(shared.threads, handlers.admission_page, shared.db, after)
            again = await shared.admission.write(page, mark, only_changed=True)
            if again:  # changed while we read: whoever changed them has it right, and so will we
                await shared.admission.change(again, self._handler.draw)
            seen += len(page)
            if len(page) < handlers.ADMISSION_PAGE:
                break
            after = page[-1].device
        log.info("admission_rebuilt", devices=seen)

    async def _check_hourly(self) -> None:
        while True:
            await retry(self.rebuild, what="admission")
            await asyncio.sleep(_REBUILD_EVERY_S)


def _log_kick(session: LiveSession, refusal: Refusal) -> None:
    log.info("session_ended", device=session.device, reason=refusal.code.value)
