"""Runs a platform: message engine, listeners and jobs in one event loop, until a signal."""

import asyncio
import json
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from functools import partial

import uvloop
from cryptography import x509
from fastapi import FastAPI

from fleetward.base.clock import SystemClock
from fleetward.base.config import Ports, ServerConfig
from fleetward.base.errors import ConfigError, PortInUseError
from fleetward.base.feature import House, Role
from fleetward.base.files import write_atomically
from fleetward.base.layout import DataFolder
from fleetward.base.logging import get_logger
from fleetward.base.throttle import RefusalThrottle
from fleetward.features.audit import service as audit
from fleetward.features.enrollment import service as enrollment
from fleetward.features.pki.ceremony import ensure_server_certificate, ensure_time_signer
from fleetward.features.pki.model import identify_device
from fleetward.migrations.runner import migrate
from fleetward.outside.dtls.server import dtls_context, load_certificate, serve_dtls
from fleetward.outside.media.bus import NatsMediaBus
from fleetward.outside.nats.config import BrokerSettings
from fleetward.outside.nats.connection import NatsAddress
from fleetward.outside.nats.credentials import ensure_nats_keys
from fleetward.outside.nats.ingest import UNPROMISED_HEADERS
from fleetward.outside.nats.runtime import ROLES, Messaging, MessagingSettings, start_messaging
from fleetward.programs.server.access import show_setup_link
from fleetward.programs.server.build import (
    Rooms,
    build_console_app,
    build_devices_app,
    build_rooms,
    media_context,
    messaging_context,
)
from fleetward.programs.server.coap import CoapApp, DtlsRefusals
from fleetward.programs.server.doors import DOORS
from fleetward.programs.server.guard import check_ports, hold_folder
from fleetward.programs.server.initialise import adopt_log
from fleetward.programs.server.timers import forget, repeat
from fleetward.programs.server.tls import (
    TlsRefusals,
    TlsServer,
    add_authorities,
    devices_context,
    server_context,
)

log = get_logger("platform")

_BACKLOG = 2048
_POLL_S = 0.02


def run_platform(folder: DataFolder, config: ServerConfig, ports: Ports, *, with_demo: bool) -> int:
    """Run every role in this process, with the demo camera if asked; return the exit code after a signal.

    Raises:
        ConflictError: another platform runs from the folder.
        PortInUseError: a port is taken.
    """
    with hold_folder(folder):
        check_ports(config, ports)
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
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        rooms = build_rooms(folder, config, ports, SystemClock())
        stack.callback(rooms.db.close)
        migrate(rooms.db)
        adopt_log(folder, rooms.db, rooms.audit.notary)
        _renew_certificates(rooms)
        house = rooms.house
        for start in (start for door in DOORS for start in door.starts):
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
            contexts = await _listen(stack, rooms, messaging)
        _start_timers(stack, rooms, house, messaging, roles, contexts)
        write_atomically(folder.ready, json.dumps(_ready(rooms)).encode(), mode=0o600)
        stack.callback(folder.ready.unlink, missing_ok=True)
        log.info("platform_ready", console=rooms.addresses.console, devices=rooms.addresses.devices)
        if with_demo:
            await _start_demo(stack, folder)
        await stopped.wait()
        log.info("platform_stopping")
    return 0


def _messaging_settings(rooms: Rooms, roles: frozenset[str]) -> MessagingSettings:
    folder, config, ports = rooms.folder, rooms.config, rooms.ports
    if config.nats.urls:
        address = NatsAddress(config.nats.urls, folder.ca_file, is_tls_first=True)
        return MessagingSettings(address, None, roles, replicas=config.nats.replicas)
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
    return MessagingSettings(address, broker, roles)


async def _listen(stack: AsyncExitStack, rooms: Rooms, messaging: Messaging) -> list[Callable[[], object]]:
    """Open both HTTPS ports; return what makes them read their certificate again."""
    certificate = rooms.folder.tls / "server.pem"
    with rooms.db.read() as tx:
        idevid_authorities = enrollment.list_idevid_authorities(tx)
    console_tls = server_context(certificate)
    device_cas = [one.certificate for one in rooms.pki.device_cas]
    authorities = [rooms.pki.root, *device_cas, *idevid_authorities]
    devices_tls = devices_context(certificate, None, authorities)

    def on_authorities(found: Iterable[x509.Certificate]) -> None:
        add_authorities(devices_tls, found)

    relay = media_context(rooms, NatsMediaBus(messaging.shared.platform.client))
    show_setup_link(rooms.db, rooms.access)
    console = build_console_app(rooms, messaging_context(messaging.archive), relay, on_authorities)
    devices = build_devices_app(rooms, relay)
    throttle = RefusalThrottle()
    for name, app, port, context in (
        ("console", console, rooms.ports.console, console_tls),
        ("devices", devices, rooms.ports.devices, devices_tls),
    ):
        refusals = TlsRefusals(rooms.db, throttle, listener=name)
        stack.callback(refusals.close)
        await _serve(stack, app, _bind(rooms.config.listen, port, name), context, refusals)
    reload_dtls = await _listen_dtls(stack, rooms, messaging, authorities)
    return [
        lambda: console_tls.load_cert_chain(certificate),
        lambda: devices_tls.load_cert_chain(certificate),
        reload_dtls,
    ]


async def _listen_dtls(
    stack: AsyncExitStack, rooms: Rooms, messaging: Messaging, authorities: list[x509.Certificate]
) -> Callable[[], object]:
    """Open the CoAP port; return what makes it read its certificate again."""
    certificate = rooms.folder.tls / "server.pem"

    async def publish(subject: str, payload: bytes) -> None:
        await messaging.shared.platform.client.publish(subject, payload, headers=UNPROMISED_HEADERS)

    context = dtls_context(certificate, authorities)
    listen = (rooms.config.listen, rooms.ports.dtls)
    server = await serve_dtls(listen, context, CoapApp(rooms, publish), DtlsRefusals(rooms))
    stack.push_async_callback(server.close)
    return lambda: load_certificate(context, certificate)


async def _serve(
    stack: AsyncExitStack,
    app: FastAPI,
    listener: socket.socket,
    context: ssl.SSLContext,
    refusals: TlsRefusals,
) -> None:
    server = TlsServer(app, [listener], context, refusals, lifespan="off", log_config=None)
    task = asyncio.create_task(server.serve())

    async def stop() -> None:
        server.should_exit = True
        await task

    stack.push_async_callback(stop)
    while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(_POLL_S)


def _bind(address: str, port: int, name: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise PortInUseError(f"port {port} ({name}): expected it free, found it in use") from error
    listener.listen(_BACKLOG)
    return listener


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

    timers: list[tuple[str, Callable[[], object], float]] = [("certificates", renew_certificates, 600.0)]
    timers += [
        (timer.name, partial(timer.act, house), timer.every_s)
        for door in DOORS
        for timer in door.timers
        if timer.role in roles
    ]
    if Role.WORKER in roles:
        timers += [
            (f"forget-{door.name}-{one.name}", partial(forget, rooms.db, one), 3600.0)
            for door in DOORS
            for one in door.forgets
        ]
    for name, act, every_s in timers:
        task = asyncio.create_task(repeat(name, act, every_s=every_s), name=name)
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
        audit.append(tx, "server_certificate.renewed", f"platform:{rooms.config.trust_domain}")
    return True


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
