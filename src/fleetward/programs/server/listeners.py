"""The ports of a platform: HTTPS for people and for devices, CoAP over DTLS."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack

from cryptography import x509
from starlette.types import ASGIApp

from fleetward.base.errors import PortInUseError
from fleetward.base.feature import House
from fleetward.base.limiting.repeats import Repeats
from fleetward.features.enrollment import service as enrollment
from fleetward.features.messaging.coap import Uplink
from fleetward.outside.dtls.server import dtls_context, load_certificate, serve_dtls
from fleetward.outside.media.bus import NatsMediaBus
from fleetward.outside.nats.ingest import UNPROMISED_HEADERS
from fleetward.outside.nats.runtime import Messaging
from fleetward.programs.server.access import show_setup_link
from fleetward.programs.server.build import (
    Rooms,
    build_console_app,
    build_devices_app,
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

_BACKLOG = 2048
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
    authorities = [rooms.pki.root, *device_cas, *idevid_authorities]
    devices_tls = devices_context(certificate, None, authorities)

    def on_authorities(found: Iterable[x509.Certificate]) -> None:
        add_authorities(devices_tls, found)

    relay = media_context(rooms, NatsMediaBus(messaging.shared.platform.client))
    show_setup_link(rooms.db, rooms.access)
    console = build_console_app(rooms, messaging_context(messaging.archive), relay, on_authorities)
    devices = build_devices_app(rooms, relay)
    repeats = Repeats()
    for name, app, port, context in (
        ("console", console, rooms.ports.console, console_tls),
        ("devices", devices, rooms.ports.devices, devices_tls),
    ):
        refusals = TlsRefusals(rooms.db, repeats, listener=name)
        stack.callback(refusals.close)
        listener = _bind(rooms.config.listen, port, name)
        await serve_https(stack, ending, name, app, listener, context, refusals)
    reload_dtls = await _listen_dtls(stack, ending, rooms, house, messaging, authorities)
    return [
        lambda: console_tls.load_cert_chain(certificate),
        lambda: devices_tls.load_cert_chain(certificate),
        reload_dtls,
    ]


async def _listen_dtls(
    stack: AsyncExitStack,
    ending: Ending,
    rooms: Rooms,
    house: House,
    messaging: Messaging,
    authorities: list[x509.Certificate],
) -> Callable[[], object]:
    """Open the CoAP port; return what makes it read its certificate again."""
    certificate = rooms.folder.tls / "server.pem"

    async def publish(subject: str, payload: bytes) -> None:
        await messaging.shared.platform.client.publish(subject, payload, headers=UNPROMISED_HEADERS)

    context = dtls_context(certificate, authorities)
    address = (rooms.config.listen, rooms.ports.dtls)
    app = CoapApp(house.furnished(Uplink(publish)), [one for door in rooms.doors for one in door.coap])
    server = await serve_dtls(address, context, app, DtlsRefusals(rooms.db))
    ending.watch("dtls", server.ended)
    stack.push_async_callback(server.close)
    return lambda: load_certificate(context, certificate)


async def serve_https(
    stack: AsyncExitStack,
    ending: Ending,
    name: str,
    app: ASGIApp,
    listener: socket.socket,
    context: ssl.SSLContext,
    on_refused: OnRefused,
) -> None:
    """Serve `app` until the stack closes; a listener that dies before ends the platform."""
    server = TlsServer(app, [listener], context, on_refused, lifespan="off", log_config=None)
    task = asyncio.create_task(server.serve(), name=f"listener-{name}")
    ending.watch(name, task)

    async def stop() -> None:
        server.should_exit = True
        await asyncio.wait({task})

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
