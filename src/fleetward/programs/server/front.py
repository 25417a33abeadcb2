"""What a client may send before anybody looks at it: uvicorn's protocols, with a bound on each part.

The parser copies a header's value together again with each piece that comes, so that one endless value costs
time by the square of its length, on the loop that also answers the broker. Bytes are therefore counted before
it sees them. A body has to keep a pace: who sends one byte a minute holds a connection, and a descriptor.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from fleetward.programs.server.header_names import NamingTransport

REQUEST_TIMEOUT_S = 30.0
_TEXT = {
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
}
_PACE_CHECKS = 4
_LINGER_S = 2.0


@dataclass(frozen=True)
class FrontLimits:
    """Bounds of one connection.

    Attributes:
        head_bytes: of a request's line and header fields together.
        framing_bytes: of a chunked body, what is not its content (chunk extensions, trailer fields), beyond
            `framing_per_chunk` for each chunk.
        body_grace_s: how long a body may take, beyond a second for each `body_bytes_per_s` that came.
    """

    head_bytes: int = 32 * 1024
    framing_bytes: int = 8 * 1024
    framing_per_chunk: int = 32
    body_grace_s: float = 10.0
    body_bytes_per_s: int = 1024


class TlsHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with the verified client certificate in `scope["extensions"]["tls"]`.

    A client that takes its time to send a request's head is let go: uvicorn would wait for ever.
    """

    _tls: dict[str, Any]
    _patience: asyncio.TimerHandle | None = None
    _pace: asyncio.TimerHandle | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        limits: FrontLimits,
        on_limit: Callable[[str], None],
        on_open: Callable[[], None],
        on_closed: Callable[[], None],
    ) -> None:
        """Prepare for one connection.

        Args:
            on_limit: told the fixed word of a limit that the client is over; it is let go.
            on_open: called when the handshake is done.
            on_closed: called once after it, when the connection has ended.
        """
        super().__init__(config, server_state, app_state)
        self._limits = limits
        self._on_limit = on_limit
        self._on_open, self._on_closed = on_open, on_closed
        self._is_in_head = True
        self._head_bytes = 0
        self._sent_bytes = self._body_bytes = self._chunks = 0
        self._body_began_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._tls = describe_tls(transport)
        self._on_open()
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
        self._end_pace()
        super().connection_lost(exc)
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """Hand on what is within the limits, the head in pieces that end where its limit does."""
        rest = memoryview(data)
        while rest and not self.transport.is_closing() and self.transport.get_protocol() is self:
            if not self._is_in_head:
                piece, rest = rest, rest[len(rest) :]
            else:
                room = self._limits.head_bytes - self._head_bytes
                if room <= 0:
                    self._refuse(431, "head_too_large")
                    return
                piece, rest = rest[:room], rest[room:]
                self._head_bytes += len(piece)
            self._sent_bytes += len(piece)
            super().data_received(bytes(piece))
            if self._is_framing_too_large():
                self._refuse(413, "chunk_framing_too_large")
                return

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._wait_for_head()
        cast("dict[str, Any]", self.scope)["extensions"] = {"tls": self._tls}

    def on_headers_complete(self) -> None:
        self._end_wait()
        self._is_in_head, self._head_bytes = False, 0
        self._sent_bytes = self._body_bytes = self._chunks = 0
        self._body_began_s = self.loop.time()
        self._end_pace()
        self._pace = self.loop.call_later(self._limits.body_grace_s / _PACE_CHECKS, self._check_pace)
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # an upgrade has none
            self.cycle.transport = cast("asyncio.Transport", NamingTransport(self.transport))

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        self._chunks += 1

    def on_message_complete(self) -> None:
        self._is_in_head = True
        self._end_pace()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, and what is to be told of its end."""
        self._end_wait()
        self._end_pace()
        super().handle_websocket_upgrade()
        cast("TlsWebSocketProtocol", self.transport.get_protocol()).on_closed = self._on_closed

    def _is_framing_too_large(self) -> bool:
        """Whether what came of a body is more framing than content; a head's last piece counts as nothing."""
        if self._is_in_head:
            return False
        framing = self._sent_bytes - self._body_bytes
        return framing > self._limits.framing_bytes + self._chunks * self._limits.framing_per_chunk

    def _wait_for_head(self) -> None:
        self._end_wait()
        self._patience = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.close)

    def _end_wait(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _check_pace(self) -> None:
        """Let go of who sends a body slower than it may be; while we do not read, it is not their fault."""
        every_s = self._limits.body_grace_s / _PACE_CHECKS
        if self.flow.read_paused:
            self._body_began_s += every_s
        allowed_s = self._limits.body_grace_s + self._body_bytes / self._limits.body_bytes_per_s
        if self.loop.time() - self._body_began_s > allowed_s:
            self._refuse(408, "body_too_slow")
        else:
            self._pace = self.loop.call_later(every_s, self._check_pace)

    def _end_pace(self) -> None:
        if self._pace is not None:
            self._pace.cancel()
            self._pace = None

    def _refuse(self, status: int, reason: str) -> None:
        """Say so where nothing was answered yet, and hang up: once, however long the client stays."""
        self._end_wait()
        self._end_pace()
        self._on_limit(reason)
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None or cycle.response_complete or not cycle.response_started:
            said = f"{reason}: the limits are in docs/reference/http.md\n".encode()
            self.transport.write(
                b"HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\n" % (status, _TEXT[status].encode())
                + b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(said), said)
            )
        self.transport.close()
        # It waits for the client's end of TLS, and decrypts what comes until then.
        self.loop.call_later(_LINGER_S, self.transport.abort)


class TlsWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, with the same extension.

    Attributes:
        on_closed: called once, when the connection has ended.
    """

    on_closed: Callable[[], None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_closed is not None:
            self.on_closed()

    async def run_asgi(self) -> None:
        extensions = cast("dict[str, Any]", self.scope["extensions"])
        extensions["tls"] = describe_tls(self.transport)
        await super().run_asgi()


def describe_tls(transport: asyncio.BaseTransport) -> dict[str, Any]:
    """Return the TLS extension of a connection; its certificate is the one the handshake verified."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None:
        return {"client_cert_der": None, "tls_version": None}
    return {"client_cert_der": tls.getpeercert(binary_form=True), "tls_version": tls.version()}
