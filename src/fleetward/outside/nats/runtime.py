"""Starts messaging in a process: the broker where it is our own, connections, streams, the roles' jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from cryptography import x509

from fleetward.base.clock import Clock
from fleetward.base.db import Database
from fleetward.base.events import Severity, emit
from fleetward.base.logging import get_logger
from fleetward.outside.nats.archive import Archive
from fleetward.outside.nats.callout import CalloutResponder
from fleetward.outside.nats.config import BrokerSettings
from fleetward.outside.nats.connection import NatsAddress, NatsConnection, connect, retry
from fleetward.outside.nats.credentials import NatsKeys
from fleetward.outside.nats.dead_letter_book import DeadLetterBook
from fleetward.outside.nats.mirror import AdmissionMirror
from fleetward.outside.nats.outbox import OutboxPublisher
from fleetward.outside.nats.presence import PresenceMirror
from fleetward.outside.nats.refusals import RefusalRecorder
from fleetward.outside.nats.server import NatsServerChild
from fleetward.outside.nats.server_log import may_tell_refusal
from fleetward.outside.nats.streams import ADMISSION_BUCKET, Retention, ensure_streams
from fleetward.outside.nats.worker import Lines, Parts, Shared, Worker
from fleetward.wire.nats_jwt import AccountSigner

log = get_logger("messaging")

ROLES = frozenset({"api", "callout", "worker"})
_THREADS = 4
_PAUSE_AFTER_FAILURE_S = 1.0
_JETSTREAM_TIMEOUT_S = 5.0
_CANCEL_AGAIN_S = 0.5
_MAX_LOG_LINES = 10_000

Identify = Callable[[x509.Certificate], str]


@dataclass(frozen=True)
class MessagingSettings:
    """How a process takes part in messaging.

    Attributes:
        broker: the nats-server to run as our child; None when `address` is an outside cluster.
        roles: of `ROLES`; what this process does.
        replicas: copies of each stream.
        parts: what features bring into the worker.
    """

    address: NatsAddress
    broker: BrokerSettings | None
    roles: frozenset[str] = ROLES
    replicas: int = 1
    retention: Retention = field(default_factory=Retention)
    parts: Parts = field(default_factory=Parts)


@dataclass(frozen=True)
class Messaging:
    """Messaging as it runs in this process.

    Attributes:
        archive: implements `TelemetryLog`, `Watcher` and `PresenceBook`.
        dead_letters: implements `DeadLetters`.
        shared: connections and mirrors, for other rooms that speak NATS.
        callout, worker: None where the process has not that role.
    """

    shared: Shared
    archive: Archive
    dead_letters: DeadLetterBook
    callout: CalloutResponder | None
    worker: Worker | None
    child: NatsServerChild | None
    _stack: AsyncExitStack

    def reload_certificates(self) -> None:
        """Have the broker of our own read its server certificate again; connections live on."""
        if self.child is not None:
            self.child.reload()

    async def stop(self) -> None:
        """End the jobs, then the connections, then the broker."""
        await self._stack.aclose()


async def start_messaging(
    settings: MessagingSettings, keys: NatsKeys, *, db: Database, clock: Clock, identify: Identify
) -> Messaging:
    """Start what the roles need on the running event loop; devices can connect when it returns.

    Args:
        identify: returns the device id in a certificate of our trust domain, or raises one of our errors.

    Raises:
        MissingProgramError, PortInUseError, ConfigError: the broker cannot run.
        UnavailableError: it, or the cluster, does not answer.
    """
    async with AsyncExitStack() as stack:
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="messaging")
        stack.callback(threads.shutdown, wait=False)
        lines: asyncio.Queue[str] = asyncio.Queue(_MAX_LOG_LINES)
        on_restart = partial(_tell_restart, db, threads)
        child = await _start_broker(stack, settings, keys, lines, on_restart=on_restart)
        shared = await _connect(stack, settings, keys, db, clock, threads)
        worker = None
        if "worker" in settings.roles:
            worker = Worker(shared, await _connect_worker(stack, settings, keys), settings.parts)
        await _prepare_streams(settings, shared, worker)
        await shared.admission.start()
        await shared.presence.start()
        tasks: dict[str, Callable[[], Awaitable[None]]] = {
            "outbox": OutboxPublisher(db, shared.js, threads).run,
            "refusals": shared.refusals.run,
            "admission": shared.admission.watch,
            "broker-log": lambda: shared.refusals.follow_log(lines),
        }
        if worker is not None:
            await worker.start()
            tasks |= worker.tasks()
        callout = await _start_callout(settings, keys, shared, identify)
        for name, run in tasks.items():
            _keep_running(stack, name, run)
        archive = Archive(shared.platform, shared.js, shared.presence, clock)
        book = DeadLetterBook(shared.platform, shared.js)
        return Messaging(shared, archive, book, callout, worker, child, stack.pop_all())


async def _start_broker(
    stack: AsyncExitStack,
    settings: MessagingSettings,
    keys: NatsKeys,
    lines: asyncio.Queue[str],
    *,
    on_restart: Callable[[int], None],
) -> NatsServerChild | None:
    if settings.broker is None:
        return None

    def on_line(line: str) -> None:
        if may_tell_refusal(line) and not lines.full():
            lines.put_nowait(line)

    child = NatsServerChild(settings.broker, keys, on_line=on_line, on_restart=on_restart)
    stack.push_async_callback(child.stop)
    await child.start()
    return child


async def _connect(
    stack: AsyncExitStack,
    settings: MessagingSettings,
    keys: NatsKeys,
    db: Database,
    clock: Clock,
    threads: ThreadPoolExecutor,
) -> Shared:
    platform = await connect(settings.address, seed=keys.platform, name="platform")
    stack.push_async_callback(platform.close)
    js = platform.client.jetstream(timeout=_JETSTREAM_TIMEOUT_S)
    admission = AdmissionMirror(platform, js)
    return Shared(
        db=db,
        clock=clock,
        threads=threads,
        platform=platform,
        js=js,
        admission=admission,
        presence=PresenceMirror(platform, js),
        refusals=RefusalRecorder(db, threads, admission),
    )


async def _connect_worker(stack: AsyncExitStack, settings: MessagingSettings, keys: NatsKeys) -> Lines:
    found: dict[str, NatsConnection] = {}
    for name, seed in (("system", keys.system), ("promised", keys.platform), ("unpromised", keys.platform)):
        found[name] = await connect(settings.address, seed=seed, name=name)
        stack.push_async_callback(found[name].close)
    return Lines(**found)


async def _prepare_streams(settings: MessagingSettings, shared: Shared, worker: Worker | None) -> None:
    """Make sure streams and consumers are there, now and after every reconnection: the store may be lost."""

    async def prepare() -> None:
        await ensure_streams(shared.js, replicas=settings.replicas, retention=settings.retention)
        if worker is not None:
            await worker.prepare()
        kept = await shared.js.stream_info(f"KV_{ADMISSION_BUCKET}")
        if kept.state.messages < len(shared.admission):
            await shared.admission.restore()

    await retry(prepare, what="streams")
    shared.platform.on_reconnect.append(prepare)


async def _start_callout(
    settings: MessagingSettings, keys: NatsKeys, shared: Shared, identify: Identify
) -> CalloutResponder | None:
    if "callout" not in settings.roles:
        return None
    callout = CalloutResponder(
        shared.platform,
        shared.admission,
        AccountSigner(keys.issuer),
        shared.clock,
        identify=identify,
        on_refusal=shared.refusals.note_session,
    )
    await callout.start()
    return callout


def _keep_running(stack: AsyncExitStack, name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a job until the stack closes; one that fails is logged and begins again."""

    async def guarded() -> None:
        while True:
            try:
                await run()
            except Exception:
                log.exception("job_failed", job=name)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    task = asyncio.create_task(guarded(), name=f"messaging-{name}")

    async def end() -> None:
        while not task.done():  # asyncio.wait_for, which nats-py uses, can lose a cancellation (CPython 3.11)
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_AGAIN_S)

    stack.push_async_callback(end)


def _tell_restart(db: Database, threads: ThreadPoolExecutor, status: int) -> None:
    """Tell that the broker died, from a thread: the event loop has it to start again."""

    def write() -> None:
        with db.write("system:messaging") as tx:
            message = "nats-server died and is being started again."
            emit(tx, "broker.restarted", message, severity=Severity.WARNING, status=status)

    threads.submit(write)
