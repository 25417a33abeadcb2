"""Connections to NATS: TLS, nkey, reconnecting for ever; what was lost meanwhile is told to who asked."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from fleetward.base.errors import ConfigError, UnavailableError
from fleetward.base.logging import get_logger
from fleetward.outside.nats.lean import install_lean_parser

log = get_logger("nats")

_UNLIMITED = 0  # nats-py's word for a subscription that never drops
_CONNECT_TIMEOUT_S = 5
_FIRST_CONNECT_TIMEOUT_S = 30.0
_RECONNECT_PAUSE_S = 0.2
_PING_INTERVAL_S = 10
_PENDING_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class NatsAddress:
    """Where NATS is and how to know it is the right one.

    Attributes:
        urls: `tls://host:port`, one or more servers of a cluster.
        ca_file: PEM of the root that its certificate leads to.
        server_name: the name its certificate must bear; needed where urls hold a loopback address.
        is_tls_first: whether TLS begins before the server's greeting, as our own broker demands.
    """

    urls: tuple[str, ...]
    ca_file: Path
    server_name: str | None = None
    is_tls_first: bool = False


@dataclass
class NatsConnection:
    """One connection as one user.

    Attributes:
        on_reconnect: called in order after every reconnection; whoever mirrors something reloads it then.
    """

    client: Client
    on_reconnect: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _catching_up: asyncio.Task[None] | None = None
    is_closing: bool = False

    def catch_up(self) -> None:
        """Begin to call what `on_reconnect` holds; a catching up that still runs starts over."""
        if self._catching_up is not None:
            self._catching_up.cancel()
        self._catching_up = asyncio.create_task(self._catch_up())

    async def _catch_up(self) -> None:
        for act in self.on_reconnect:
            await retry(act, what="catching up")

    async def follow(
        self, subject: str, act: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Call `act` with every message on `subject`; none is dropped for being slow."""
        subscription = await self.client.subscribe(
            subject, queue=queue, cb=act, pending_msgs_limit=_UNLIMITED, pending_bytes_limit=_UNLIMITED
        )
        await self.client.flush()
        return subscription

    async def close(self) -> None:
        """Send what is pending and close."""
        self.is_closing = True
        if self._catching_up is not None:
            self._catching_up.cancel()
        if self.client.is_connected:
            await self.client.drain()
        else:
            await self.client.close()


async def connect(address: NatsAddress, *, seed: str, name: str) -> NatsConnection:
    """Return a connection as the user of `seed`.

    Raises:
        UnavailableError: none of the servers answered as they should.
        ConfigError: the CA file cannot be read.
    """
    connection = NatsConnection(Client())
    install_lean_parser(connection.client)
    logging.getLogger("asyncio").addFilter(_drop_eof_warning)

    async def on_reconnected() -> None:
        log.info("nats_reconnected", connection=name)
        connection.catch_up()

    async def on_disconnected() -> None:
        if not connection.is_closing:
            log.warning("nats_disconnected", connection=name)

    async def on_error(error: Exception) -> None:
        if not connection.is_closing:
            log.warning("nats_error", connection=name, error=type(error).__name__)

    try:
        async with asyncio.timeout(_FIRST_CONNECT_TIMEOUT_S):
            await connection.client.connect(
                servers=list(address.urls),
                name=f"fleetward-{name}",
                tls=_tls_context(address.ca_file),
                tls_hostname=address.server_name,
                tls_handshake_first=address.is_tls_first,
                nkeys_seed_str=seed,
                connect_timeout=_CONNECT_TIMEOUT_S,
                reconnect_time_wait=_RECONNECT_PAUSE_S,  # type: ignore[arg-type] # any number of seconds
                max_reconnect_attempts=-1,
                allow_reconnect=True,
                ping_interval=_PING_INTERVAL_S,
                pending_size=_PENDING_BYTES,
                error_cb=on_error,
                disconnected_cb=on_disconnected,
                reconnected_cb=on_reconnected,
            )
    except (OSError, nats.errors.Error, TimeoutError) as error:
        raise UnavailableError(
            f"NATS at {', '.join(address.urls)}: expected it to let us in as {name}, found an error",
            hint="See logs/nats.log in the data folder.",
        ) from error
    return connection


def _tls_context(ca_file: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:
        raise ConfigError(f"{ca_file}: expected the root certificate, found it unreadable") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _drop_eof_warning(record: logging.LogRecord) -> bool:
    """Drop what asyncio says whenever a connection that nats-py has upgraded to TLS is closed."""
    return not record.getMessage().startswith("returning true from eof_received()")


async def retry(act: Callable[[], Awaitable[None]], *, what: str) -> None:
    """Run `act` until it succeeds: NATS and its streams come back, and so do we.

    For acts that must happen and may be repeated. Anything but NATS or the database being away ends it.
    """
    pause_s = 0.1
    while True:
        try:
            await act()
        except (nats.errors.Error, TimeoutError, OSError, UnavailableError) as error:
            log.warning("nats_retry", what=what, error=type(error).__name__)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)
        else:
            return
