"""A DTLS 1.2 server on asyncio: cookies before state, mutual X.509, bounded and forgetful.

OpenSSL does the protocol over memory; this moves datagrams. An address costs us nothing until it has
returned a cookie (RFC 6347 section 4.2.1), so that a flood of forged hellos leaves no trace.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from fleetward.base.errors import PortInUseError
from fleetward.base.logging import get_logger
from fleetward.base.tls_policy import DTLS_CIPHERS
from fleetward.outside.dtls.coap import CoapSession, Handler
from fleetward.outside.dtls.cookies import Cookies

log = get_logger("dtls")

MAX_SESSIONS = 10_000
_IDLE_S = 300.0
_HANDSHAKE_S = 20.0
_TICK_S = 0.25
_MTU_BYTES = 1200
_MAX_DATAGRAM_BYTES = 64 * 1024
_RECORD_HEAD_BYTES = 13
_MAX_PENDING = 8
_DTLS_1_2 = 0xFEFD  # pyOpenSSL names none of DTLS's versions
# Where a ClientHello in one record has its type and its random (RFC 6347 section 4.2.2).
_HELLO_TYPE, _HELLO_RANDOM = slice(13, 14), slice(27, 59)

Address = tuple[Any, ...]
OnRefused = Callable[[str, str], None]


@dataclass
class _Session:
    connection: SSL.Connection
    random: bytes
    seen_s: float
    coap: CoapSession | None = None
    pending: set["asyncio.Task[None]"] = field(default_factory=set)


class DtlsServer(asyncio.DatagramProtocol):
    """One UDP port. Make it with `serve_dtls`; `close` ends it.

    Attributes:
        ended: done when the port is closed, with the exception that closed it, if not `close` did.
    """

    def __init__(
        self, make_context: Callable[[], SSL.Context], handler: Handler, on_refused: OnRefused
    ) -> None:
        self._make_context, self._handler, self._on_refused = make_context, handler, on_refused
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sessions: dict[Address, _Session] = {}
        self._fresh: SSL.Connection | None = None
        self._asking: tuple[Address, bytes | None] = ((), None)
        self._cookies = Cookies(time.monotonic())
        self._context = self._prepare()
        self._transport: asyncio.DatagramTransport | None = None
        self._ticker: asyncio.Task[None] | None = None

    def reload(self) -> None:
        """Use certificate and authorities as they are now, from the next session on."""
        self._context = self._prepare()  # pyOpenSSL lets nobody change a context that made a connection
        self._fresh = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._ticker = asyncio.create_task(self._tick())
        self._ticker.add_done_callback(self._note_end)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_with(exc)

    async def close(self) -> None:
        """Say good-bye to everyone and close the port."""
        self._end_with(None)
        if self._ticker is not None:
            self._ticker.cancel()
        for address in list(self._sessions):
            self._end(address)
        if self._transport is not None:
            self._transport.close()

    def _note_end(self, ticker: "asyncio.Task[None]") -> None:
        self._end_with(None if ticker.cancelled() else ticker.exception())

    def _end_with(self, error: BaseException | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if not data:
            return  # OpenSSL would take it for the end of the line
        session = self._sessions.get(addr)
        if session is None or _begins_anew(session, data):
            session = self._greet(data, addr)
            if session is None:
                return
        else:
            session.connection.bio_write(data)
        session.seen_s = time.monotonic()
        self._advance(session, addr)

    def _greet(self, data: bytes, addr: Address) -> _Session | None:
        """Return a session once the client has returned our cookie; until then nothing is kept of it."""
        before = self._sessions.get(addr)
        self._asking = (addr, None if before is None else before.random)
        connection = self._fresh or self._new_connection()
        self._fresh = connection
        connection.bio_write(data)
        try:
            connection.DTLSv1_listen()
        except SSL.WantReadError:
            self._flush(connection, addr)
            return None
        except SSL.Error:
            self._fresh = None  # junk; this object may have been left in any state
            return None
        self._fresh = None
        if before is not None:
            del self._sessions[addr]
            _drop_pending(before)  # the client lost its session and cannot read a farewell in it
        if len(self._sessions) >= MAX_SESSIONS:
            self._end(min(self._sessions, key=lambda one: self._sessions[one].seen_s))
        session = self._sessions[addr] = _Session(connection, data[_HELLO_RANDOM], time.monotonic())
        return session

    def _advance(self, session: _Session, addr: Address) -> None:
        connection = session.connection
        try:
            if session.coap is None:
                connection.do_handshake()
                session.coap = CoapSession(_peer_of(connection), self._handler)
            while True:
                self._hand_over(session, addr, connection.recv(_MAX_DATAGRAM_BYTES))
        except SSL.WantReadError:
            self._flush(connection, addr)
        except SSL.ZeroReturnError:
            self._end(addr)
        except SSL.Error as error:
            self._flush(connection, addr)  # the alert that says why
            if session.coap is None:
                self._on_refused(str(addr[0]), _reason_of(error))
            self._end(addr)

    def _hand_over(self, session: _Session, addr: Address, datagram: bytes) -> None:
        if len(session.pending) >= _MAX_PENDING:
            return  # CoAP repeats what was not answered
        task = asyncio.create_task(self._serve(session, addr, datagram))
        session.pending.add(task)
        task.add_done_callback(session.pending.discard)

    async def _serve(self, session: _Session, addr: Address, datagram: bytes) -> None:
        if session.coap is None:
            return
        answer = await session.coap.receive(datagram)
        if answer is None or self._sessions.get(addr) is not session:
            return
        try:
            session.connection.send(answer)
        except SSL.Error:
            self._end(addr)
            return
        self._flush(session.connection, addr)

    async def _tick(self) -> None:
        """Repeat lost handshake flights (RFC 6347 section 4.2.4), and forget those who went away."""
        while True:
            await asyncio.sleep(_TICK_S)
            now_s = time.monotonic()
            for addr, session in list(self._sessions.items()):
                limit_s = _IDLE_S if session.coap is not None else _HANDSHAKE_S
                if now_s - session.seen_s > limit_s:
                    self._end(addr)
                elif session.coap is None and session.connection.DTLSv1_get_timeout() == 0:
                    self._repeat_flight(session, addr)

    def _repeat_flight(self, session: _Session, addr: Address) -> None:
        try:
            session.connection.DTLSv1_handle_timeout()
        except SSL.Error:  # repeated often enough: OpenSSL gives the handshake up
            self._end(addr)
            return
        self._flush(session.connection, addr)

    def _prepare(self) -> SSL.Context:
        context = self._make_context()
        context.set_cookie_generate_callback(
            lambda _connection: self._cookies.make(*self._asking, time.monotonic())
        )
        context.set_cookie_verify_callback(
            lambda _connection, given: self._cookies.knows(given, *self._asking, time.monotonic())
        )
        return context

    def _new_connection(self) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        connection.set_ciphertext_mtu(_MTU_BYTES)
        return connection

    def _flush(self, connection: SSL.Connection, addr: Address) -> None:
        """Send what OpenSSL wrote, a record a datagram: its memory BIO joins the records of a flight."""
        while self._transport is not None:
            try:
                flight = connection.bio_read(_MAX_DATAGRAM_BYTES)
            except SSL.WantReadError:
                return
            while len(flight) >= _RECORD_HEAD_BYTES:
                size = _RECORD_HEAD_BYTES + int.from_bytes(flight[11:13], "big")
                self._transport.sendto(flight[:size], addr)
                flight = flight[size:]

    def _end(self, addr: Address) -> None:
        session = self._sessions.pop(addr, None)
        if session is None:
            return
        _drop_pending(session)
        try:
            session.connection.shutdown()
        except SSL.Error:
            return
        self._flush(session.connection, addr)


async def serve_dtls(
    address: tuple[str, int],
    make_context: Callable[[], SSL.Context],
    handler: Handler,
    on_refused: OnRefused,
) -> DtlsServer:
    """Listen on a UDP port; return what closes it.

    Args:
        make_context: called now and at each `reload`.
        on_refused: told the address and reason of a failed handshake; must be quick.

    Raises:
        PortInUseError: another program has the port.
    """
    loop = asyncio.get_running_loop()
    try:
        _, server = await loop.create_datagram_endpoint(
            lambda: DtlsServer(make_context, handler, on_refused), local_addr=address
        )
    except OSError as error:
        raise PortInUseError(f"port {address[1]} (dtls): expected it free, found it in use") from error
    return server


def dtls_context(certificate: Path, authorities: list[x509.Certificate]) -> SSL.Context:
    """Return DTLS 1.2 with our server certificate that demands a client's.

    Args:
        certificate: PEM of key and chain, leaf first.
        authorities: root and issuing device CAs, and those of factories' IDevIDs: constrained clients send
            their leaf only.
    """
    context = SSL.Context(SSL.DTLS_SERVER_METHOD)
    context.set_min_proto_version(_DTLS_1_2)
    context.use_certificate_chain_file(str(certificate))
    context.use_privatekey_file(str(certificate))
    store = context.get_cert_store()
    if store is None:
        raise AssertionError("OpenSSL gives every context a certificate store")
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # a factory may give us only its intermediate CA
    context.set_cipher_list(DTLS_CIPHERS.encode())
    context.set_options(SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_verify_depth(4)
    return context


def _begins_anew(session: _Session, data: bytes) -> bool:
    """Whether a client with a session begins another from the same port (RFC 6347 section 4.2.8).

    It lost power, say. What it had goes on until the new hello has returned a cookie. A copy of the hello
    that began this session, late or replayed, is none.
    """
    is_hello = data[:1] == b"\x16" and data[3:5] == b"\0\0" and data[_HELLO_TYPE] == b"\x01"
    return is_hello and data[_HELLO_RANDOM] != session.random


def _drop_pending(session: _Session) -> None:
    for task in session.pending:
        task.cancel()


def _peer_of(connection: SSL.Connection) -> bytes:
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        raise SSL.Error([("DTLS", "", "no client certificate")])
    return certificate.public_bytes(Encoding.DER)


def _reason_of(error: SSL.Error) -> str:
    """Return OpenSSL's words for a failed handshake."""
    try:
        return str(error.args[0][-1][-1])[:80]
    except (IndexError, TypeError):
        return "the handshake failed"
