"""The ports of a platform: HTTPS for people and for devices, CoAP over DTLS, perhaps plain HTTP of pki."""

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

from cryptography import x509
from fastapi import FastAPI
from OpenSSL import SSL
from starlette.types import ASGIApp

from fleetward.base.errors import PortInUseError
from fleetward.base.feature import House
from fleetward.base.limiting.repeats import Repeats
from fleetward.base.logging import get_logger
from fleetward.features.enrollment import service as enrollment
from fleetward.features.messaging.coap import Uplink
from fleetward.features.pki.settings import Pki
from fleetward.outside.dtls.server import DtlsServer, dtls_context, serve_dtls
from fleetward.outside.media.bus import NatsMediaBus
from fleetward.outside.nats.ingest import UNPROMISED_HEADERS
from fleetward.outside.nats.runtime import Messaging
from fleetward.programs.server.access import show_setup_link
from fleetward.programs.server.build import (
    Rooms,
    build_console_app,
    build_devices_app,
    build_plain_app,
    media_context,
    messaging_context,
)
from fleetward.programs.server.coap import CoapApp
from fleetward.programs.server.ending import Ending
from fleetward.programs.server.refusals import DtlsRefusals, TlsRefusals
from fleetward.programs.server.tls import (
    OnRefused,
    TlsServer,
    add_authorities,
    devices_context,
    server_context,
)

log = get_logger("platform")

_BACKLOG = 2048
# A viewer sends its ticket and nothing else; a camera its video, in pieces of its own choosing.
_MAX_TICKET_BYTES = 4096
_MAX_VIDEO_BYTES = 4 * 1024 * 1024
_FILES_BESIDES = 256
_FEW_FILES = 4096
_MOST_FILES = 65_536
_POLL_S = 0.02


async def listen(
    stack: AsyncExitStack, ending: Ending, rooms: Rooms, house: House, messaging: Messaging
) -> list[Callable[[], object]]:
    """Open the ports; return what makes them read their certificate again."""
    certificate = rooms.folder.tls / "server.pem"
    with rooms.db.read() as tx:
        idevid_authorities = enrollment.list_idevid_authorities(tx)
    console_tls = server_context(certificate)
    device_cas = [one.certificate for one in rooms.pki.device_cas]
    authorities = {rooms.pki.root, *device_cas, *idevid_authorities}
    devices_tls = devices_context(certificate, None, authorities)
    dtls = await _listen_dtls(stack, ending, rooms, house, messaging, authorities)
    loop = asyncio.get_running_loop()

    def on_authorities(found: Iterable[x509.Certificate]) -> None:
        add_authorities(devices_tls, found)
        authorities.update(found)
        loop.call_soon_threadsafe(dtls.reload)  # a route calls from its own thread

    relay = media_context(rooms, NatsMediaBus(messaging.shared.platform.client))
    show_setup_link(rooms.db, rooms.access)
    console = build_console_app(
        rooms, messaging_context(messaging.archive, messaging.dead_letters), relay, on_authorities
    )
    devices = build_devices_app(rooms, relay)
    repeats = Repeats()
    room = share_descriptors()
    listeners: list[tuple[str, FastAPI, int, ssl.SSLContext | None, dict[str, Any]]] = [
        ("console", console, rooms.ports.console, console_tls, {"ws_max_size": _MAX_TICKET_BYTES}),
        ("devices", devices, rooms.ports.devices, devices_tls, {"ws_max_size": _MAX_VIDEO_BYTES}),
    ]
    if plain_port := rooms.config.get(Pki).plain_port:
        listeners.append(("pki", build_plain_app(rooms), plain_port, None, {}))
    for name, app, port, context, settings in listeners:
        refusals = TlsRefusals(rooms.db, repeats, listener=name)
        stack.callback(refusals.close)
        listener = _bind(rooms.config.listen, port, name)
        await serve_https(
            stack, ending, name, app, listener, context, refusals, max_connections=room[name], **settings
        )
    return [
        lambda: console_tls.load_cert_chain(certificate),
        lambda: devices_tls.load_cert_chain(certificate),
        dtls.reload,
    ]


async def _listen_dtls(
    stack: AsyncExitStack,
    ending: Ending,
    rooms: Rooms,
    house: House,
    messaging: Messaging,
    authorities: set[x509.Certificate],
) -> DtlsServer:
    """Open the CoAP port; `authorities` are read anew at each reload."""
    certificate = rooms.folder.tls / "server.pem"

    async def publish(subject: str, payload: bytes) -> None:
        await messaging.shared.platform.client.publish(subject, payload, headers=UNPROMISED_HEADERS)

    def make_context() -> SSL.Context:
        return dtls_context(certificate, list(authorities))

    address = (rooms.config.listen, rooms.ports.dtls)
    app = CoapApp(house.furnished(Uplink(publish)), [one for door in rooms.doors for one in door.coap])
    server = await serve_dtls(address, make_context, app, DtlsRefusals(rooms.db))
    ending.watch("dtls", server.ended)
    stack.push_async_callback(server.close)
    return server


async def serve_https(
    stack: AsyncExitStack,
    ending: Ending,
    name: str,
    app: ASGIApp,
    listener: socket.socket,
    context: ssl.SSLContext | None,
    on_refused: OnRefused,
    **settings: Any,
) -> None:
    """Serve `app` until the stack closes; a listener that dies before ends the platform.

    Args:
        context: None serves without TLS.
        settings: further ones of `TlsServer`.
    """
    server = TlsServer(app, [listener], context, on_refused, lifespan="off", log_config=None, **settings)
    task = asyncio.create_task(server.serve(), name=f"listener-{name}")
    ending.watch(name, task)

    async def stop() -> None:
        server.should_exit = True
        await asyncio.wait({task})

    stack.push_async_callback(stop)
    while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(_POLL_S)


def share_descriptors() -> dict[str, int]:
    """Return how many connections each listener may have open; files, broker and database keep the rest.

    Operators have a share of their own: no crowd at the devices' port takes it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < _FEW_FILES:
        log.warning("open_files_limit_low", limit=limit, wanted=_FEW_FILES, hint="LimitNOFILE= or ulimit -n")
    left = max(0, limit - _FILES_BESIDES)
    return {"console": max(16, left * 3 // 10), "devices": max(16, left * 6 // 10), "pki": left // 20}


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
