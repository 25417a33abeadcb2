"""What one client may send, and how many connections it may hold, before anybody knows who it is.

Guards `programs/server/front.py` against upgrades of uvicorn, httptools and uvloop.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fleetward.base.clock import SystemClock
from fleetward.programs.server.front import FrontLimits
from fleetward.programs.server.listeners import share_descriptors
from fleetward.programs.server.tls import TlsRefusal, server_context
from support.authority import Authority
from support.https import serving

_HEAD = 500
_LIMITS = FrontLimits(
    head_bytes=_HEAD, framing_bytes=200, framing_per_chunk=8, body_grace_s=60, body_bytes_per_s=1
)
_WAIT_S = 60


async def length(request: Request) -> Response:
    with contextlib.suppress(ClientDisconnect):
        return PlainTextResponse(f"got {len(await request.body())}")
    return PlainTextResponse("hung up")


async def stay(websocket: WebSocket) -> None:
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(str(len(await websocket.receive_text())))


async def names(_request: Request) -> Response:
    challenge = {"www-authenticate": "Basic", "ETAG": '"1"', "content-transfer-encoding": "base64"}
    return PlainTextResponse("\r\nbody-line: stays\r\n", headers=challenge)


APP = Starlette(
    routes=[Route("/", length, methods=["GET", "POST"]), Route("/names", names), WebSocketRoute("/ws", stay)]
)


class Front:
    """A listener with small limits, and who it turned away."""

    def __init__(self, port: int, refused: list[TlsRefusal], client: ssl.SSLContext) -> None:
        self.port, self.refused, self.client = port, refused, client

    def open(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=_WAIT_S)
        return self.client.wrap_socket(plain, server_hostname="localhost")

    def ask(self, *pieces: bytes) -> bytes:
        """Send the pieces and return all that is answered until the server hangs up."""
        with self.open() as line:
            with contextlib.suppress(OSError):  # it may hang up before all is sent
                for piece in pieces:
                    line.sendall(piece)
            return _read_all(line)

    def reasons(self) -> list[str]:
        return [one.reason for one in self.refused]


def _read_all(line: ssl.SSLSocket) -> bytes:
    found = b""
    with contextlib.suppress(OSError):
        while piece := line.recv(65_536):
            found += piece
    return found


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(params=["uvloop", "asyncio"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Front]]:
    ca = Authority("server")
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    files = ca.issue_files(
        tmp_path, "server", ExtendedKeyUsageOID.SERVER_AUTH, at=SystemClock().now(), names=names
    )
    client = ssl.create_default_context(cadata=ca.certificate.public_bytes(Encoding.PEM).decode())
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Front:
            refused: list[TlsRefusal] = []
            port = stack.enter_context(
                serving(
                    APP,
                    server_context(*files),
                    refused.append,
                    loop=request.param,
                    **{"limits": _LIMITS, **settings},
                )
            )
            return Front(port, refused, client)

        yield start


@pytest.fixture
def front(make: Callable[..., Front]) -> Front:
    return make()


def _head(size: int) -> bytes:
    start, end = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: ", b"\r\n\r\n"
    return start + b"a" * (size - len(start) - len(end)) + end


@pytest.mark.parametrize("size", [_HEAD - 1, _HEAD])
def test_a_head_up_to_the_limit_is_answered(front: Front, size: int) -> None:
    assert b"got 0" in front.ask(_head(size))
    assert front.reasons() == []


def test_a_head_over_the_limit_is_refused_by_name(front: Front) -> None:
    answer = front.ask(_head(_HEAD + 1))
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"head_too_large" in answer
    assert front.reasons() == ["head_too_large"]
    assert b"got 0" in front.ask(_head(_HEAD))


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n"])
def test_a_head_without_end_is_not_read_to_its_end(front: Front, start: bytes) -> None:
    """The parser would copy all of it with every piece, on the loop that serves everybody."""
    piece = b"y: z\r\n" if start.endswith(b"\n") else b"a" * 50
    assert b"431" in front.ask(start, *([piece] * 100_000))
    assert front.reasons() == ["head_too_large"]


def test_a_client_that_goes_on_sending_is_cut_off(front: Front) -> None:
    """By itself the transport would wait 30 s for the client's end of TLS, and decrypt all that comes."""
    deadline = time.monotonic() + 20

    def go_on(line: ssl.SSLSocket) -> None:
        line.sendall(b"GET / HTTP/1.1\r\nx: ")
        while time.monotonic() < deadline:
            line.sendall(b"a" * 1_000)
            time.sleep(0.01)

    with front.open() as line, pytest.raises(OSError):  # noqa: PT011 - reset or closed, as the kernel likes
        go_on(line)
    assert front.reasons() == ["head_too_large"]


def test_each_request_of_a_connection_has_a_head_of_its_own(front: Front) -> None:
    one = _head(_HEAD - 10).replace(b"connection: close", b"connection: keep-alive")
    with front.open() as line:
        for _ in range(3):
            line.sendall(one)
            found = b""
            while b"got 0" not in found:
                found += line.recv(65_536)
    assert front.reasons() == []


_CHUNKED = b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"


def test_small_chunks_are_taken(front: Front) -> None:
    assert b"got 3000" in front.ask(_CHUNKED, b"1\r\nx\r\n" * 3000, b"0\r\n\r\n")
    assert front.reasons() == []


@pytest.mark.parametrize(
    "pieces",
    [
        [b"1;" + b"e" * 20 + b"\r\nx\r\n"] * 1_000,
        [b"1;", *([b"e" * 50] * 50_000)],
        [b"0\r\n", *([b"t: " + b"v" * 50 + b"\r\n"] * 50_000)],
    ],
    ids=["extensions", "an endless extension", "trailers"],
)
def test_framing_that_outgrows_its_content_is_refused_by_name(front: Front, pieces: list[bytes]) -> None:
    answer = front.ask(_CHUNKED, *pieces)
    assert b"chunk_framing_too_large" in answer
    assert front.reasons() == ["chunk_framing_too_large"]


# Elsewhere a busy machine has a minute to send what it sends.
_HURRY = replace(_LIMITS, body_grace_s=0.5)
_POST = b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 101\r\n\r\n"


def test_a_body_that_stands_still_is_let_go(make: Callable[..., Front]) -> None:
    front = make(limits=_HURRY)
    answer = front.ask(_POST + b"x")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert front.reasons() == ["body_too_slow"]


def test_a_client_over_a_limit_that_does_not_leave_is_told_of_once(make: Callable[..., Front]) -> None:
    front = make(limits=replace(_LIMITS, body_grace_s=2.0))
    with front.open() as line:
        line.sendall(_CHUNKED + b"1;" + b"e" * 2_000)
        time.sleep(3.0)  # reads nothing, and stays
        assert front.reasons() == ["chunk_framing_too_large"]


def test_each_byte_that_came_gives_a_body_time(make: Callable[..., Front]) -> None:
    front = make(limits=_HURRY)
    with front.open() as line:
        line.sendall(_POST + b"x" * 100)
        time.sleep(4 * _HURRY.body_grace_s)
        line.sendall(b"x")
        assert b"got 101" in _read_all(line)
    assert front.reasons() == []


def test_one_address_holds_half_of_the_connections_and_gets_them_back(make: Callable[..., Front]) -> None:
    front = make(max_connections=6)
    held = [front.open() for _ in range(3)]
    for line in held:  # the server has seen each
        line.sendall(_head(_HEAD).replace(b"connection: close", b"connection: open!"))
        assert b"200" in line.recv(65_536)
    with pytest.raises(OSError):  # noqa: PT011 - reset or closed, as the kernel likes
        front.open()
    assert front.reasons() == ["too_many_connections"]
    for line in held:
        line.close()
    _until(lambda: _is_answered(front))


def test_a_websocket_counts_until_it_is_closed(make: Callable[..., Front]) -> None:
    front = make(max_connections=2)
    with connect(f"wss://localhost:{front.port}/ws", ssl=front.client) as socket_:
        socket_.send("12345")
        assert socket_.recv() == "5"
        with pytest.raises(OSError):  # noqa: PT011 - reset or closed, as the kernel likes
            front.open()
    _until(lambda: _is_answered(front))


def test_failed_handshakes_do_not_use_up_the_connections(make: Callable[..., Front]) -> None:
    front = make(max_connections=4)
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", front.port), timeout=_WAIT_S) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with contextlib.suppress(OSError):
                plain.recv(100)
    _until(lambda: _is_answered(front))


def test_a_websocket_takes_small_messages_only_and_none_compressed(make: Callable[..., Front]) -> None:
    front = make(ws_max_size=64)
    with connect(f"wss://localhost:{front.port}/ws", ssl=front.client, compression="deflate") as socket_:
        assert socket_.protocol.extensions == []
        socket_.send("x" * 64)
        assert socket_.recv() == "64"
        socket_.send("x" * 65)
        with pytest.raises(ConnectionClosed) as closed:
            socket_.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def _is_answered(front: Front) -> bool:
    try:
        return b"got 0" in front.ask(_head(_HEAD))
    except OSError:
        return False


def test_operators_keep_descriptors_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource  # noqa: PLC0415

    allowed: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: allowed.append(limits))
    for limits, files in [((256, 1024), 1024), ((256, resource.RLIM_INFINITY), 65_536), ((9, 10), 10)]:
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, found=limits: found)
        shares = share_descriptors()
        assert allowed[-1] == (files, limits[1])
        assert shares["console"] >= 16
        assert sum(shares.values()) <= max(32, files - 256)


def test_names_of_header_fields_are_written_as_the_rfcs_write_them(front: Front) -> None:
    said = front.ask(b"GET /names HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    found = {line.partition(b": ")[0] for line in head.split(b"\r\n")[1:]}
    assert {b"Content-Type", b"Content-Length", b"Connection", b"WWW-Authenticate", b"ETag"} <= found
    assert b"Content-Transfer-Encoding" in found
    assert not [name for name in found if name == name.lower()]
    assert body == b"\r\nbody-line: stays\r\n"


def test_the_answer_after_an_interim_one_has_its_names_too(front: Front) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n"
    said = front.ask(head + b"Content-Length: 2\r\n\r\n", b"ab")
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert b"\r\nContent-Type: text/plain" in said
    assert said.endswith(b"got 2")
