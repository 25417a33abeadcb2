"""Reaches the streams of a data folder while no platform, or one, runs from it."""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from fleetward.base.config import ServerConfig
from fleetward.base.errors import UnavailableError
from fleetward.base.layout import DataFolder
from fleetward.outside.nats.config import BrokerSettings
from fleetward.outside.nats.connection import NatsAddress, NatsConnection, connect
from fleetward.outside.nats.credentials import ensure_nats_keys
from fleetward.outside.nats.server import NatsServerChild
from fleetward.programs.server.initialise import ensure_listener_certificate

_LOOPBACK = "127.0.0.1"
_LISTEN = re.compile(r'^listen: "127\.0\.0\.1:(\d{1,5})"$', re.MULTILINE)


@asynccontextmanager
async def streams_of_running(folder: DataFolder, config: ServerConfig) -> AsyncIterator[NatsConnection]:
    """Open the message engine of the platform that runs from the folder. Raises UnavailableError."""
    file = folder.nats / "nats.conf"
    found = _LISTEN.search(file.read_text(errors="replace")) if file.is_file() else None
    if found is None:
        raise UnavailableError(
            f"{file}: expected where the message engine listens, found it unsaid",
            hint="Wait until the platform is ready (ready.json), then take the backup again.",
        )
    async with _connected(folder, config, int(found[1])) as connection:
        yield connection


@asynccontextmanager
async def streams_of_stopped(
    folder: DataFolder, config: ServerConfig, now: datetime
) -> AsyncIterator[NatsConnection]:
    """Run a message engine over the folder for a while, on ports of loopback where it lets no device in.

    Raises:
        UnavailableError, ConfigError: it does not start.
        KeyUnavailableError: a key is missing.
    """
    ensure_listener_certificate(folder, config, now)
    certificate, (mqtt, port) = folder.tls / "server.pem", _free_ports()
    settings = BrokerSettings(
        folder=folder.nats,
        mqtt_listen=(_LOOPBACK, mqtt),
        nats_listen=(_LOOPBACK, port),
        certificate=certificate,
        private_key=certificate,
        device_ca=folder.path / "ca" / "device-cas.pem",
        log_file=folder.logs / "nats.log",
    )
    child = NatsServerChild(
        settings, ensure_nats_keys(folder.keys), on_line=lambda _: None, on_restart=lambda _: None
    )
    await child.start()
    try:
        async with _connected(folder, config, port) as connection:
            yield connection
    finally:
        await child.stop()


@asynccontextmanager
async def _connected(folder: DataFolder, config: ServerConfig, port: int) -> AsyncIterator[NatsConnection]:
    address = NatsAddress(
        (f"tls://{_LOOPBACK}:{port}",), folder.ca_file, server_name=config.public_name, is_tls_first=True
    )
    connection = await connect(address, seed=ensure_nats_keys(folder.keys).platform, name="backup")
    try:
        yield connection
    finally:
        await connection.close()


def _free_ports() -> tuple[int, int]:
    with socket.create_server((_LOOPBACK, 0)) as one, socket.create_server((_LOOPBACK, 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]
