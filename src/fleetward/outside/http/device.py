"""The platform's devices port, as a device speaks to it: HTTPS, small answers, resumable downloads.

By the standard library: what else speaks HTTP would cost a device two megabytes of memory.
"""

import http.client
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from fleetward.base.clock import Clock
from fleetward.base.errors import TooLargeError, UnavailableError
from fleetward.outside.tls.client import DeviceContext, TlsIdentity, client_context, explain

MAX_ANSWER_BYTES = 1024 * 1024
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 30
_MAX_IDLE = 2
_HTTPS_PORT = 443
_MAX_ANSWER_S = 60.0
_CHUNK_BYTES = 64 * 1024


class HttpFailedError(UnavailableError):
    """No HTTP answer came.

    Attributes:
        is_clock_suspect: the server's certificate seemed not yet valid, or expired.
        is_certificate_refused: the server's TLS refused our certificate.
    """

    code = "http_failed"

    def __init__(
        self, message: str, *, is_clock_suspect: bool = False, is_certificate_refused: bool = False
    ) -> None:
        super().__init__(message)
        self.is_clock_suspect = is_clock_suspect
        self.is_certificate_refused = is_certificate_refused


@dataclass(frozen=True)
class Answer:
    """A complete answer, whatever its status. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Download:
    """An answer whose body is still under way."""

    status: int
    headers: dict[str, str]
    chunks: Iterator[bytes]


@dataclass
class _Pool:
    """Connections of one key, open and idle."""

    context: DeviceContext
    idle: list[http.client.HTTPSConnection] = field(default_factory=list)
    is_closed: bool = False


class DeviceHttp:
    """Requests to one server. Nothing is retried, no redirect followed: the caller decides. Thread-safe."""

    def __init__(self, server: str, ca_file: Path) -> None:
        """Speak to `server` (`https://host:port`), trusting the root in `ca_file` alone."""
        self._server = server.rstrip("/")
        url = urlsplit(self._server)
        self._address = (url.hostname or "", url.port or _HTTPS_PORT)
        self._ca_file = ca_file
        self._clock: Clock | None = None
        self._pools: dict[tuple[str | None, bool], _Pool] = {}
        self._lock = threading.Lock()

    def correct_clock(self, clock: Clock) -> None:
        """Judge certificates by `clock` from now on: the system's was found wrong."""
        self._clock = clock
        self.forget()

    def forget(self, label: str | None = None) -> None:
        """Drop the connections made with key `label`; with all keys when it is None."""
        with self._lock:
            for key in [key for key in self._pools if label is None or key[0] == label]:
                pool = self._pools.pop(key)
                pool.is_closed = True
                for connection in pool.idle:
                    connection.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        identity: TlsIdentity | None = None,
        is_time_unchecked: bool = False,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Return the whole answer.

        Raises:
            HttpFailedError: none came within a minute.
            TooLargeError: it is over `max_bytes`.
            KeyUnavailableError: the key of `identity` cannot be used.
        """
        pool = self._pool(identity, is_time_unchecked=is_time_unchecked)
        with self._open(pool, method, path, headers, body) as response:
            content = self._read_all(response, max_bytes)
            return Answer(response.status, _lower(response), content)

    @contextmanager
    def download(
        self, path: str, *, offset: int = 0, identity: TlsIdentity | None = None
    ) -> Iterator[Download]:
        """Open `path` from byte `offset` on, as a stream.

        The status tells whether the server took the offset (206) or starts anew (200). Reading may raise
        HttpFailedError; what was read until then is good for resuming.

        Raises:
            HttpFailedError: no answer came.
        """
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        pool = self._pool(identity, is_time_unchecked=False)
        with self._open(pool, "GET", path, headers, b"") as response:
            yield Download(response.status, _lower(response), self._chunks(response))

    def close(self) -> None:
        self.forget()

    def _pool(self, identity: TlsIdentity | None, *, is_time_unchecked: bool) -> _Pool:
        key = (None if identity is None else identity.label, is_time_unchecked)
        with self._lock:
            found = self._pools.get(key)
            if found is None:
                found = self._pools[key] = _Pool(
                    client_context(
                        self._ca_file,
                        identity=identity,
                        clock=self._clock,
                        is_time_unchecked=is_time_unchecked,
                    )
                )
            return found

    @contextmanager
    def _open(
        self,
        pool: _Pool,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        body: bytes,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._take(pool)
        is_reusable = False
        try:
            response = self._ask(connection, method, path, headers, body)
            yield response
            is_reusable = response.isclosed() and not response.will_close
        finally:
            if is_reusable:
                self._give_back(pool, connection)
            else:
                connection.close()

    def _ask(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        body: bytes,
    ) -> http.client.HTTPResponse:
        try:
            if connection.sock is None:
                connection.connect()
            if connection.sock is not None:
                connection.sock.settimeout(_READ_TIMEOUT_S)
            connection.request(method, path, body=body or None, headers=dict(headers or {}))
            return connection.getresponse()
        except (http.client.HTTPException, OSError) as error:
            raise self._failed(error) from error

    def _take(self, pool: _Pool) -> http.client.HTTPSConnection:
        """Return an idle connection that the server has not closed meanwhile, or a new one."""
        while True:
            with self._lock:
                found = pool.idle.pop() if pool.idle else None
            if found is None:
                host, port = self._address
                return http.client.HTTPSConnection(
                    host, port, context=pool.context, timeout=_CONNECT_TIMEOUT_S
                )
            # Nothing is under way on it: what can be read is its end.
            if found.sock is not None and not _is_readable(found.sock):
                return found
            found.close()

    def _give_back(self, pool: _Pool, connection: http.client.HTTPSConnection) -> None:
        with self._lock:
            if not pool.is_closed and len(pool.idle) < _MAX_IDLE:
                pool.idle.append(connection)
                return
        connection.close()

    def _read_all(self, response: http.client.HTTPResponse, max_bytes: int) -> bytes:
        deadline = time.monotonic() + _MAX_ANSWER_S
        content = bytearray()
        for chunk in self._chunks(response):
            content += chunk
            if len(content) > max_bytes:
                raise TooLargeError(f"{self._server}: expected at most {max_bytes} bytes, found more")
            if time.monotonic() > deadline:
                raise HttpFailedError(f"{self._server}: expected an answer within {_MAX_ANSWER_S:.0f} s")
        return bytes(content)

    def _chunks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        left = response.length  # None when the server says none: then its end is the connection's
        try:
            # read1 returns what is there: a server that drips bytes cannot hold us past the deadline.
            while left != 0 and (
                chunk := response.read1(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES))
            ):
                left = None if left is None else left - len(chunk)
                yield chunk
        except (http.client.HTTPException, OSError) as error:
            raise self._failed(error) from error
        if left:
            raise self._failed(http.client.IncompleteRead(b"", left))
        if left == 0:
            response.close()

    def _failed(self, error: Exception) -> HttpFailedError:
        why = explain(error)
        return HttpFailedError(
            f"{self._server}: expected an answer, found {why.reason}",
            is_clock_suspect=why.is_clock_suspect,
            is_certificate_refused=why.is_certificate_refused,
        )


def _is_readable(open_socket: socket.socket) -> bool:
    poll = select.poll()
    poll.register(open_socket, select.POLLIN)
    return bool(poll.poll(0))


def _lower(response: http.client.HTTPResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.getheaders():
        held = found.get(name.lower())
        found[name.lower()] = value if held is None else f"{held}, {value}"
    return found
