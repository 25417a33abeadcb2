"""Runs a platform: message engine, listeners and jobs in one event loop, until a signal."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

import uvloop

from fleetward.base import journal
from fleetward.base.clock import SystemClock
from fleetward.base.config import Ports, ServerConfig
from fleetward.base.errors import ConfigError
from fleetward.base.events import Severity, emit
from fleetward.base.feature import House
from fleetward.base.files import write_atomically
from fleetward.base.layout import DataFolder
from fleetward.base.logging import get_logger
from fleetward.features.pki.authority.ceremony import ensure_server_certificate, ensure_time_signer
from fleetward.features.pki.model import identify_device
from fleetward.migrations.runner import migrate
from fleetward.outside.nats.config import BrokerSettings
from fleetward.outside.nats.connection import NatsAddress
from fleetward.outside.nats.credentials import ensure_nats_keys
from fleetward.outside.nats.runtime import ROLES, Messaging, MessagingSettings, start_messaging
from fleetward.programs.server.build import (
    Rooms,
    build_rooms,
    parts_of,
)
from fleetward.programs.server.ending import Ending
from fleetward.programs.server.initialise import adopt_log
from fleetward.programs.server.listeners import listen
from fleetward.programs.server.timers import Act, acts_of, repeat

log = get_logger("platform")

_BACKLOG = 2048
_POLL_S = 0.02


def run_platform(folder: DataFolder, config: ServerConfig, ports: Ports, *, with_demo: bool) -> int:
    """Run every role in this process, with the demo camera if asked; return the exit code after a signal.

    Whoever calls holds the folder, and found the ports free.
    """
    return uvloop.run(_run(folder, config, ports, ROLES, with_demo=with_demo))


def run_roles(folder: DataFolder, config: ServerConfig, ports: Ports, roles: frozenset[str]) -> int:
    """Run some roles of a platform that is spread over processes.

    Raises:
        ConfigError: its state would live in this process or this folder.
    """
    if not config.nats.urls or not config.database or not config.blobs:
        raise ConfigError(
            f"{folder.config}: expected database, blobs and nats.urls for 'serve', found one of them missing",
            hint="Set all three, or run everything in one process: fleetward up.",
        )
    return uvloop.run(_run(folder, config, ports, roles, with_demo=False))


async def _run(
    folder: DataFolder, config: ServerConfig, ports: Ports, roles: frozenset[str], *, with_demo: bool
) -> int:
    ending = Ending()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.ask)
    async with AsyncExitStack() as stack:
        rooms = build_rooms(folder, config, ports, SystemClock())
        stack.callback(rooms.db.close)
        stack.callback(rooms.access.password_checks.close)
        migrate(rooms.db)
        adopt_log(folder, rooms.db, rooms.audit.notary)
        _renew_certificates(rooms)
        house = rooms.house
        for start in (start for door in rooms.doors for start in door.starts):
            start.act(house)
        messaging = await start_messaging(
            _messaging_settings(rooms, roles),
            ensure_nats_keys(folder.keys),
            db=rooms.db,
            clock=rooms.clock,
            identify=lambda certificate: identify_device(config.trust_domain, certificate),
        )
        stack.push_async_callback(messaging.stop)
        contexts: list[Callable[[], object]] = []
        if "api" in roles:
            contexts = await listen(stack, ending, rooms, house, messaging)
        _start_timers(stack, rooms, house, messaging, roles, contexts)
        write_atomically(folder.ready, json.dumps(_ready(rooms)).encode(), mode=0o600)
        stack.callback(folder.ready.unlink, missing_ok=True)
        log.info("platform_ready", console=rooms.addresses.console, devices=rooms.addresses.devices)
        if with_demo:
            await _start_demo(stack, folder)
        code = await ending.wait()
        if ending.failure is not None:
            _tell_failure(rooms, ending.failure)
        log.info("platform_stopping")
    return code


def _messaging_settings(rooms: Rooms, roles: frozenset[str]) -> MessagingSettings:
    folder, config, ports = rooms.folder, rooms.config, rooms.ports
    parts = parts_of(rooms.doors)
    if config.nats.urls:
        address = NatsAddress(config.nats.urls, folder.ca_file, is_tls_first=True)
        return MessagingSettings(address, None, roles, replicas=config.nats.replicas, parts=parts)
    certificate = folder.tls / "server.pem"
    broker = BrokerSettings(
        folder=folder.nats,
        mqtt_listen=(config.listen, ports.mqtt),
        nats_listen=("127.0.0.1", ports.nats),
        certificate=certificate,
        private_key=certificate,
        device_ca=folder.path / "ca" / "device-cas.pem",
        log_file=folder.logs / "nats.log",
    )
    address = NatsAddress(
        (f"tls://127.0.0.1:{ports.nats}",), folder.ca_file, server_name=config.public_name, is_tls_first=True
    )
    return MessagingSettings(address, broker, roles, parts=parts)


def _start_timers(
    stack: AsyncExitStack,
    rooms: Rooms,
    house: House,
    messaging: Messaging,
    roles: frozenset[str],
    reload_listeners: list[Callable[[], object]],
) -> None:
    def renew_certificates() -> None:
        if _renew_certificates(rooms):
            for reload_listener in reload_listeners:
                reload_listener()
            messaging.reload_certificates()
            log.info("server_certificate_renewed")

    acts = [Act("certificates", renew_certificates, 600.0), *acts_of(rooms.doors, house, roles)]
    for one in acts:
        task = asyncio.create_task(repeat(one.name, one.act, every_s=one.every_s), name=one.name)
        stack.push_async_callback(_cancel, task)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _renew_certificates(rooms: Rooms) -> bool:
    path, now = rooms.folder.path, rooms.clock.now()
    ensure_time_signer(path, rooms.pki.server_ca, rooms.config.trust_domain, now)
    if not ensure_server_certificate(path, rooms.pki.server_ca, rooms.config.host_names, now):
        return False
    with rooms.db.write("system:certificates") as tx:
        journal.record(tx, "server_certificate.renewed", f"platform:{rooms.config.trust_domain}")
    return True


def _tell_failure(rooms: Rooms, failure: str) -> None:
    with rooms.db.write("system:platform") as tx:
        message = f"The platform stopped because a listener died: {failure}"
        emit(tx, "listener.died", message, severity=Severity.CRITICAL, reason=failure)


def _ready(rooms: Rooms) -> dict[str, str]:
    return {
        "console": rooms.addresses.console,
        "devices": rooms.addresses.devices,
        "mqtt": rooms.addresses.mqtt,
        "dtls": rooms.addresses.dtls,
        "ca_file": str(rooms.folder.ca_file),
    }


async def _start_demo(stack: AsyncExitStack, folder: DataFolder) -> None:
    """Start the demo camera as the program of its own that it is; it ends with us."""
    command = [sys.executable, "-m", "fleetward", "demo", "camera", "--data", str(folder.path)]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)

    async def stop() -> None:
        if process.returncode is None:
            process.terminate()
        await process.wait()

    stack.push_async_callback(stop)
