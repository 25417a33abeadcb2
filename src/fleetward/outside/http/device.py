"""The platform's devices port, as a device speaks to it: HTTPS, small answers, resumable downloads."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

from fleetward.base.clock import Clock
from fleetward.base.errors import TooLargeError, UnavailableError
from fleetward.outside.tls.client import TlsIdentity, client_context, explain

MAX_ANSWER_BYTES = 1024 * 1024
_TIMEOUT = urllib3.Timeout(connect=10, read=30)
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


class DeviceHttp:
    """Requests to one server. Nothing is retried, no redirect followed: the caller decides. Thread-safe."""

    def __init__(self, server: str, ca_file: Path) -> None:
        """Speak to `server` (`https://host:port`), trusting the root in `ca_file` alone."""
        self._server = server.rstrip("/")
        self._ca_file = ca_file
        self._clock: Clock | None = None
        self._pools: dict[tuple[str | None, bool], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def correct_clock(self, clock: Clock) -> None:
        """Judge certificates by `clock` from now on: the system's was found wrong."""
        self._clock = clock
        self.forget()

    def forget(self, label: str | None = None) -> None:
        """Drop the connections made with key `label`; with all keys when it is None."""
        with self._lock:
            for key in [key for key in self._pools if label is None or key[0] == label]:
                self._pools.pop(key).clear()

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
            return Answer(response.status, _lower(response.headers), content)

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
            yield Download(response.status, _lower(response.headers), self._chunks(response))

    def close(self) -> None:
        self.forget()

    def _pool(self, identity: TlsIdentity | None, *, is_time_unchecked: bool) -> urllib3.PoolManager:
        key = (None if identity is None else identity.label, is_time_unchecked)
        with self._lock:
            found = self._pools.get(key)
            if found is None:
                context = client_context(
                    self._ca_file, identity=identity, clock=self._clock, is_time_unchecked=is_time_unchecked
                )
                found = urllib3.PoolManager(
                    num_pools=1, maxsize=2, ssl_context=context, timeout=_TIMEOUT, retries=False
                )
                self._pools[key] = found
            return found

    @contextmanager
    def _open(
        self,
        pool: urllib3.PoolManager,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        body: bytes,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        try:
            response = pool.request(
                method,
                f"{self._server}{path}",
                headers=headers,
                body=body or None,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._failed(error) from error
        try:
            yield response
        finally:
            if response.length_remaining == 0:
                response.release_conn()
            else:
                response.close()

    def _read_all(self, response: urllib3.BaseHTTPResponse, max_bytes: int) -> bytes:
        deadline = time.monotonic() + _MAX_ANSWER_S
        content = bytearray()
        for chunk in self._chunks(response):
            content += chunk
            if len(content) > max_bytes:
                raise TooLargeError(f"{self._server}: expected at most {max_bytes} bytes, found more")
            if time.monotonic() > deadline:
                raise HttpFailedError(f"{self._server}: expected an answer within {_MAX_ANSWER_S:.0f} s")
        return bytes(content)

    def _chunks(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            # read1 returns what is there: a server that drips bytes cannot hold us past the deadline.
            while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
                yield chunk
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> HttpFailedError:
        why = explain(error)
        return HttpFailedError(
            f"{self._server}: expected an answer, found {why.reason}",
            is_clock_suspect=why.is_clock_suspect,
            is_certificate_refused=why.is_certificate_refused,
        )


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
