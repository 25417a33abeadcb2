"""What our listeners promise: the client's certificate in the scope; a word to both sides for every refusal.

Guards `programs/server/tls.py` against upgrades of uvicorn, uvloop and CPython.
"""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from fleetward.base.clock import SystemClock
from fleetward.base.limiting.repeats import Repeats
from fleetward.base.web import peer_certificate
from fleetward.programs.server import front, tls
from fleetward.programs.server.refusals import TlsRefusals
from fleetward.programs.server.tls import (
    TlsRefusal,
    add_authorities,
    devices_context,
    server_context,
)
from support.authority import LIFETIME, Authority
from support.clock import ManualClock
from support.enrollment import events_of, sqlite_in
from support.https import serving

NOW = SystemClock().now()


class Listener(NamedTuple):
    port: int
    refused: list[TlsRefusal]
    context: ssl.SSLContext
    ca: Authority
    folder: Path

    def client(self, *, issuer: Authority | None = None, lifetime: timedelta = LIFETIME) -> ssl.SSLContext:
        """A client's TLS, with a certificate of `issuer` if one is given."""
        context = ssl.create_default_context(cadata=self.ca.certificate.public_bytes(Encoding.PEM).decode())
        if issuer is not None:
            at = NOW if lifetime > timedelta(0) else NOW - LIFETIME
            files = issuer.issue_files(
                self.folder, "cam-1", ExtendedKeyUsageOID.CLIENT_AUTH, at=at, lifetime=abs(lifetime)
            )
            context.load_cert_chain(*files)
        return context


def common_name(der: bytes | None) -> str:
    return "nobody" if der is None else x509.load_der_x509_certificate(der).subject.rfc4514_string()


async def who(request: Request) -> Response:
    return PlainTextResponse(common_name(peer_certificate(request.scope)))


async def who_ws(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(common_name(peer_certificate(websocket.scope)))
    await websocket.close()


APP = Starlette(routes=[Route("/who", who), WebSocketRoute("/ws", who_ws)])


@pytest.fixture(params=["uvloop", "asyncio"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    ca = Authority("devices")
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    files = ca.issue_files(tmp_path, "server", ExtendedKeyUsageOID.SERVER_AUTH, at=NOW, names=names)
    context = devices_context(*files, [ca.certificate])
    refused: list[TlsRefusal] = []
    with serving(APP, context, refused.append, loop=request.param) as port:
        yield Listener(port, refused, context, ca, tmp_path)


def ask(listener: Listener, context: ssl.SSLContext) -> str:
    with httpx.Client(verify=context) as client:
        return client.get(f"https://localhost:{listener.port}/who").text


def shake_hands(listener: Listener, context: ssl.SSLContext) -> None:
    """Connect until the server has seen the whole handshake and had its say."""
    with (
        socket.create_connection(("127.0.0.1", listener.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(b"GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while secured.recv(4096):
            pass


def retry(ask_once: Callable[[], str]) -> str:
    """Ask until the server has noticed who left."""
    for _ in range(100):
        try:
            if answer := ask_once():
                return answer
        except (httpx.TransportError, OSError):
            continue
    raise AssertionError("expected an answer, found none")


def test_the_verified_certificate_reaches_http_and_websocket(listener: Listener) -> None:
    context = listener.client(issuer=listener.ca)
    assert ask(listener, context) == "CN=cam-1"
    with connect(f"wss://localhost:{listener.port}/ws", ssl=context) as websocket:
        assert websocket.recv() == "CN=cam-1"
    assert listener.refused == []


def test_a_client_without_a_certificate_is_nobody(listener: Listener) -> None:
    assert ask(listener, listener.client()) == "nobody"
    with connect(f"wss://localhost:{listener.port}/ws", ssl=listener.client()) as websocket:
        assert websocket.recv() == "nobody"


def test_a_second_request_on_one_connection_is_by_the_same_client(listener: Listener) -> None:
    with httpx.Client(verify=listener.client(issuer=listener.ca)) as client:
        answers = [client.get(f"https://localhost:{listener.port}/who").text for _ in range(3)]
    assert answers == ["CN=cam-1"] * 3


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_expired_certificate_is_refused_by_name(listener: Listener, version: ssl.TLSVersion) -> None:
    context = listener.client(issuer=listener.ca, lifetime=-timedelta(hours=1))
    context.maximum_version = context.minimum_version = version
    with pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_EXPIRED"):
        shake_hands(listener, context)
    assert listener.refused == [TlsRefusal("certificate_expired", "127.0.0.1")]


def test_a_resumed_session_is_refused_and_the_next_handshake_is_whole(listener: Listener) -> None:
    """What resumes is not verified again: its certificate may have expired, or its CA been removed since."""
    context = listener.client(issuer=listener.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def greet(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", listener.port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as secured,
        ):
            secured.sendall(b"GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            with contextlib.suppress(OSError):
                while chunk := secured.recv(4096):
                    answer += chunk
            return answer, secured.session

    answer, session = greet(None)
    assert answer.endswith(b"CN=cam-1")
    assert session is not None
    with contextlib.suppress(OSError):
        assert greet(session)[0] == b""
    assert [one.reason for one in listener.refused] == ["session_resumed"]

    def greet_again() -> str:
        return greet(session)[0].decode()

    assert retry(greet_again).endswith("CN=cam-1")


def test_a_stranger_ca_is_refused_until_it_is_added(listener: Listener) -> None:
    factory = Authority("factory")
    context = listener.client(issuer=factory)
    with pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"):
        shake_hands(listener, context)
    assert listener.refused == [TlsRefusal("certificate_unknown_ca", "127.0.0.1")]
    add_authorities(listener.context, [factory.certificate])
    assert ask(listener, context) == "CN=cam-1"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_legacy_tls_is_refused_by_name(listener: Listener, version: ssl.TLSVersion) -> None:
    context = listener.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = version
    context.maximum_version = version
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        shake_hands(listener, context)
    assert listener.refused == [TlsRefusal("legacy_tls", "127.0.0.1")]


@pytest.mark.parametrize(
    ("first_bytes", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "plaintext"),
        (b"\x10\x12\x00\x04MQTT\x04\x02", "not_tls"),
    ],
)
def test_plaintext_is_refused_by_name(listener: Listener, first_bytes: bytes, reason: str) -> None:
    with socket.create_connection(("127.0.0.1", listener.port)) as plain:
        plain.sendall(first_bytes)
        while plain.recv(4096):
            pass
    assert listener.refused == [TlsRefusal(reason, "127.0.0.1")]


def test_a_refused_handshake_becomes_one_event(tmp_path: Path, clock: ManualClock) -> None:
    with sqlite_in(tmp_path, clock) as db:
        refusals = TlsRefusals(db, Repeats(), listener="devices")
        for _ in range(5):
            refusals(TlsRefusal("legacy_tls", "192.0.2.7"))
        refusals(TlsRefusal("certificate_expired", "192.0.2.7"))
        refusals.close()
        found = events_of(db, "tls.refused")
    assert [event.details["reason"] for event in found] == ["legacy_tls", "certificate_expired"]
    assert (
        found[0].message == "The devices port refused a client at 192.0.2.7: it speaks a TLS older than 1.2."
    )
    assert found[0].severity == "warning"


def test_a_client_that_merely_leaves_is_not_refused(listener: Listener) -> None:
    socket.create_connection(("127.0.0.1", listener.port)).close()
    ask(listener, listener.client())
    assert listener.refused == []


def test_a_client_that_never_asks_is_let_go(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "REQUEST_TIMEOUT_S", 0.2)
    with (
        socket.create_connection(("127.0.0.1", listener.port), timeout=20) as plain,
        listener.client().wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(b"GET /who HTTP/1.1\r\nHost: local")
        assert secured.recv(100) == b""
    with httpx.Client(verify=listener.client()) as client:
        assert client.get(f"https://localhost:{listener.port}/who").text == "nobody"


def test_one_address_cannot_take_all_handshakes(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "MAX_HANDSHAKES_PER_ADDRESS", 2)
    idle = [socket.create_connection(("127.0.0.1", listener.port), timeout=20) for _ in range(3)]
    assert idle[2].recv(1) == b""
    for one in idle:
        one.close()
    with httpx.Client(verify=listener.client()) as client:
        assert retry(lambda: client.get(f"https://localhost:{listener.port}/who").text) == "nobody"


def test_the_operators_listener_asks_for_no_certificate(tmp_path: Path) -> None:
    ca = Authority("server")
    names = [x509.DNSName("localhost")]
    context = server_context(
        *ca.issue_files(tmp_path, "server", ExtendedKeyUsageOID.SERVER_AUTH, at=NOW, names=names)
    )
    assert context.verify_mode is ssl.CERT_NONE
    with serving(APP, context, lambda _: None) as port:
        found = Listener(port, [], context, ca, tmp_path)
        assert ask(found, found.client(issuer=ca)) == "nobody"
