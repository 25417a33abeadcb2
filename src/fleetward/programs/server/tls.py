"""TLS of our HTTPS listeners: what clients must bring, who they turned out to be, and who was turned away.

Stock uvicorn hands the application no client certificate and forgets failed handshakes; asyncio even drops
the alert that tells the client why. `TlsServer` is uvicorn but for the accepting: it takes each connection
itself and gives it to `connect_accepted_socket`, so it knows whom it refused and why, and says so. A contract
test guards this against upgrades.
"""

import asyncio
import errno
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.types import ASGIApp

from fleetward.base.errors import UnavailableError
from fleetward.base.logging import get_logger
from fleetward.base.tls_policy import OPENSSL_CIPHERS
from fleetward.programs.server.front import FrontLimits, TlsHttpProtocol, TlsWebSocketProtocol

log = get_logger("tls")

HANDSHAKE_TIMEOUT_S = 15.0
MAX_HANDSHAKES = 2000
MAX_HANDSHAKES_PER_ADDRESS = 500
MAX_CONNECTIONS = 10_000
_ACCEPT_PAUSE_S = 0.1
# What accept(2) says of one connection, or of a machine short of something. All else ends the listener.
_PASSING = frozenset({
    errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM, errno.EPROTO,
    errno.EINTR, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH,
    errno.EOPNOTSUPP, errno.ENETUNREACH, errno.ETIMEDOUT,
})  # fmt: skip
_LINGER_S = 2.0
# Where the handshake of the task at work leaves its alert.
_last_words: ContextVar[list[bytes]] = ContextVar("last_words")

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_VERIFY_REASONS = {
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    **dict.fromkeys((18, 19, 20, 21), "certificate_unknown_ca"),
    23: "certificate_revoked",
    26: "certificate_wrong_purpose",
}
_REASONS = {
    "UNSUPPORTED_PROTOCOL": "legacy_tls",
    "VERSION_TOO_LOW": "legacy_tls",
    "WRONG_SSL_VERSION": "legacy_tls",
    "HTTP_REQUEST": "plaintext",
    "WRONG_VERSION_NUMBER": "not_tls",
    "UNEXPECTED_MESSAGE": "not_tls",
    "NO_SHARED_CIPHER": "no_shared_cipher",
}
_SAID = {
    "certificate_not_yet_valid": "its certificate is not valid yet",
    "certificate_expired": "its certificate has expired",
    "certificate_unknown_ca": "its certificate is by a CA unknown here",
    "certificate_revoked": "its certificate is revoked",
    "certificate_wrong_purpose": "its certificate is not for clients",
    "certificate_invalid": "its certificate does not verify",
    "legacy_tls": "it speaks a TLS older than 1.2",
    "plaintext": "it speaks plain HTTP",
    "not_tls": "it does not speak TLS",
    "no_shared_cipher": "it offers no cipher we accept",
    "session_resumed": "it resumed a session, whose certificate would go unchecked",
    "distrusts_us": "it does not trust our certificate",
    "head_too_large": "the head of its request is too large",
    "chunk_framing_too_large": "chunk extensions and trailers of its request are too large",
    "body_too_slow": "it sends the body of its request too slowly",
    "too_many_connections": "it has, or all clients have, as many connections open as this port takes",
}


@dataclass(frozen=True)
class TlsRefusal:
    """A client whose handshake failed, or that is over a limit of the port.

    Attributes:
        reason: a fixed word, one of `_SAID`, or OpenSSL's own in lower case.
    """

    reason: str
    address: str

    @property
    def said(self) -> str:
        return _SAID.get(self.reason, self.reason.replace("_", " "))


OnRefused = Callable[[TlsRefusal], None]


def server_context(certificate: Path, key: Path | None = None) -> "ServerContext":
    """Return a context for a listener that asks for no client certificate: TLS 1.2 or later.

    Args:
        certificate: PEM of the chain, leaf first; of the key too, when `key` is None.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Some clients have no TLS 1.3, strongSwan for one.
    context.set_ciphers(OPENSSL_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # A ticket's key lives as long as the process: who learns it reads what was said under it.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key)
    return context


def devices_context(
    certificate: Path, key: Path | None, authorities: Iterable[x509.Certificate]
) -> ssl.SSLContext:
    """Return a context for the devices' listener: a client may bring a certificate, and it must then verify.

    Args:
        certificate: as in `server_context`.
        authorities: our root and issuing device CAs, and those of factories' IDevIDs.
    """
    context = server_context(certificate, key)
    context.verify_mode = ssl.CERT_OPTIONAL
    # An IDevID's factory may give us only its intermediate CA.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    # A resumed session skips the certificate's verification; each connection shall pass it. Without tickets
    # OpenSSL still remembers sessions of TLS 1.2 by their ids.
    context.refuses_resumed = True
    add_authorities(context, authorities)
    return context


def add_authorities(context: ssl.SSLContext, authorities: Iterable[x509.Certificate]) -> None:
    """Accept client certificates of these CAs too, from the next handshake on."""
    der = b"".join(authority.public_bytes(Encoding.DER) for authority in authorities)
    if der:
        context.load_verify_locations(cadata=der)


class _Handshake(ssl.SSLObject):
    """Keeps the alert of a failed handshake, which asyncio would throw away."""

    outgoing: ssl.MemoryBIO
    last_words: list[bytes]
    refuses_resumed: bool

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            self.last_words.append(self.outgoing.read())
            raise
        if self.refuses_resumed and self.session_reused:
            error = ssl.SSLError(1, "resumed")
            error.reason = "SESSION_RESUMED"
            raise error


class ServerContext(ssl.SSLContext):
    """A listener's TLS.

    Attributes:
        refuses_resumed: whether a handshake that resumes a session of TLS 1.2 is refused. OpenSSL forgets the
            session with it, so that the client's next one is whole.
    """

    sslobject_class = _Handshake
    refuses_resumed = False

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any
    ) -> ssl.SSLObject:
        made = cast("_Handshake", super().wrap_bio(incoming, outgoing, *args, **kwargs))
        made.outgoing, made.last_words = outgoing, _last_words.get([])
        made.refuses_resumed = self.refuses_resumed
        return made


class TlsServer(uvicorn.Server):
    """One HTTPS listener of ours; one without TLS where it has no context."""

    def __init__(
        self,
        app: ASGIApp,
        sockets: Sequence[socket.socket],
        context: ssl.SSLContext | None,
        on_refused: OnRefused,
        *,
        max_connections: int = MAX_CONNECTIONS,
        limits: FrontLimits | None = None,
        **settings: Any,
    ) -> None:
        """Serve `app` on listening `sockets`, which it closes in the end.

        Args:
            on_refused: called on the event loop for each client turned away; must not block.
            max_connections: open at a time; one address may have half of them.
            limits: of what a client may send.
            settings: further settings of `uvicorn.Config`.
        """
        super().__init__(
            uvicorn.Config(
                app,
                http=TlsHttpProtocol,
                ws=TlsWebSocketProtocol,
                **{
                    "log_level": "warning",
                    "access_log": False,
                    "server_header": False,
                    "proxy_headers": False,  # the peer is who connected, whatever a header says
                    "timeout_graceful_shutdown": 3,
                    "ws_per_message_deflate": False,  # a small message would become a large one
                    **settings,
                },
            )
        )
        self._sockets = sockets
        self._context = context
        self._on_refused = on_refused
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._handshakes_of: Counter[str] = Counter()
        self._limits = limits or FrontLimits()
        self._max_connections = max_connections
        self._open, self._open_of = 0, Counter[str]()
        self._failure: BaseException | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit`. Raises UnavailableError when the listener dies."""
        await super().serve(sockets)
        if self._failure is not None:
            raise UnavailableError(
                f"listener: expected it to go on accepting, found {self._failure}"
            ) from self._failure

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program, which has more to stop than this."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        del sockets
        await super().startup(sockets=[])
        for listener in self._sockets:
            listener.settimeout(0)
            task = asyncio.create_task(self._accept(listener))
            task.add_done_callback(self._note_end)
            self._accepting.append(task)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        del sockets
        ending = [*self._accepting, *self._handshakes]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await super().shutdown(sockets=list(self._sockets))

    def _note_end(self, accepting: "asyncio.Task[None]") -> None:
        if not accepting.cancelled():
            self._failure = accepting.exception()
            self.should_exit = True

    async def _accept(self, listener: socket.socket) -> None:
        room = asyncio.Semaphore(MAX_HANDSHAKES)
        loop = asyncio.get_running_loop()
        while True:
            await room.acquire()
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                room.release()
                log.warning("accept_failed", error=error.strerror)
                await asyncio.sleep(_ACCEPT_PAUSE_S)  # out of descriptors, most likely
                continue
            task = asyncio.create_task(self._receive(connection, str(peer[0])))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)
            task.add_done_callback(lambda _: room.release())

    async def _receive(self, connection: socket.socket, address: str) -> None:
        """Shake hands, unless this address has its share of handshakes under way: others want in too."""
        if self._handshakes_of[address] >= MAX_HANDSHAKES_PER_ADDRESS:
            connection.close()
            return
        if not self._has_room(address):
            self._on_refused(TlsRefusal("too_many_connections", address))
            connection.close()
            return
        self._handshakes_of[address] += 1
        try:
            await self._shake_hands(connection, address)
        finally:
            self._handshakes_of[address] -= 1
            if self._handshakes_of[address] == 0:
                del self._handshakes_of[address]

    def _has_room(self, address: str) -> bool:
        most, own = self._max_connections, self._open_of[address] + self._handshakes_of[address]
        return self._open + len(self._handshakes) <= most and own < max(1, most // 2)

    def _make_protocol(self, address: str) -> TlsHttpProtocol:
        def on_open() -> None:
            self._open += 1
            self._open_of[address] += 1

        def on_closed() -> None:
            self._open -= 1
            self._open_of[address] -= 1
            if not self._open_of[address]:
                del self._open_of[address]

        return TlsHttpProtocol(
            self.config,
            self.server_state,
            self.lifespan.state,
            limits=self._limits,
            on_limit=lambda reason: self._on_refused(TlsRefusal(reason, address)),
            on_open=on_open,
            on_closed=on_closed,
        )

    async def _shake_hands(self, connection: socket.socket, address: str) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        last_words: list[bytes] = []
        _last_words.set(last_words)
        # The transport closes its socket as soon as a handshake fails; this one still carries the alert.
        with connection.dup() as line:
            try:
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: self._make_protocol(address),
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=None if self._context is None else HANDSHAKE_TIMEOUT_S,
                )
                # No ticket follows the handshake, so nothing of ours would acknowledge it: a client that has
                # not set TCP_NODELAY holds its request back until that comes, 40 ms later by default.
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            except ssl.SSLError as error:
                reason = reason_of(error)
                if reason is not None:
                    self._on_refused(TlsRefusal(reason, address))
                    await _send_last_words(line, b"".join(last_words))
            except (OSError, TimeoutError):
                return  # the client left, or never began: nobody was refused


async def _send_last_words(line: socket.socket, alert: bytes) -> None:
    """Send the alert and read on until the client has it: closing over unread bytes would destroy it."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LINGER_S):
            await loop.sock_sendall(line, alert)
            line.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(line, 65_536):
                pass
    except (OSError, TimeoutError):
        return  # it does not want to know


def reason_of(error: ssl.SSLError) -> str | None:
    """Return the fixed word for a failed handshake; None when the client merely went away."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_REASONS.get(error.verify_code, "certificate_invalid")
    reason = error.reason or ""
    if "_ALERT_" in reason:
        return "distrusts_us" if "CERT" in reason or "UNKNOWN_CA" in reason else reason.lower()
    return _REASONS.get(reason, reason.lower() or None)
