"""The camera's line: idle over mutual TLS until someone watches, then ffmpeg's video."""

import ctypes
import random
import shutil
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable
from typing import Protocol

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from fleetward.base.errors import FleetwardError, InvalidInputError, MissingProgramError
from fleetward.features.media.device import ffmpeg_arguments
from fleetward.wire.media import MAX_CONTROL_BYTES, parse_order

_OPEN_TIMEOUT_S = 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_CHUNK_BYTES = 64 * 1024
_END_TIMEOUT_S = 2
_POLL_S = 0.5
_PR_SET_PDEATHSIG = 1


class CameraLog(Protocol):
    """Where the camera tells how it is doing: an event's constant name, then facts."""

    def info(self, event: str, **facts: object) -> None: ...

    def warning(self, event: str, **facts: object) -> None: ...


class Camera:
    """One video source. `run` in a thread of its own until its event is set; it never gives up."""

    def __init__(
        self, url: str, source: str, context: Callable[[], ssl.SSLContext | None], log: CameraLog
    ) -> None:
        """Prepare to show `source` to whoever the platform lets watch.

        Args:
            url: `wss://…/v1/media/ingest` of the devices port.
            context: returns TLS with the device's present certificate, None while it has none.

        Raises:
            MissingProgramError: ffmpeg is not installed.
            ConfigError: the source is no source.
        """
        self._arguments = ffmpeg_arguments(source)
        program = shutil.which("ffmpeg")
        if program is None:
            raise MissingProgramError(
                "video: expected ffmpeg on PATH, found none", hint="Install it: apt-get install ffmpeg"
            )
        self._program, self._url, self._context, self._log = program, url, context, log
        self._stream: _Stream | None = None
        self._line: ClientConnection | None = None

    @property
    def is_open(self) -> bool:
        """Whether the line is up."""
        return self._line is not None

    def run(self, stopped: threading.Event) -> None:
        """Hold the line until `stopped`; after each loss try again, with growing pauses and full jitter."""
        pause_s = _FIRST_PAUSE_S
        while not stopped.is_set():
            try:
                context = self._context()
                if context is not None:
                    self._hold_line(context, stopped)
                    pause_s = _FIRST_PAUSE_S
            except (OSError, ConnectionClosed, InvalidHandshake, InvalidURI, FleetwardError) as error:
                self._log.info("camera_line_lost", reason=str(error)[:200])
            finally:
                self._end_stream()
            stopped.wait(pause_s * random.uniform(0.1, 1))  # noqa: S311 - spreads load, guards nothing
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def reconnect(self) -> None:
        """Drop the line, to come back with the certificate of the moment."""
        line = self._line
        if line is not None:
            line.close()

    def _hold_line(self, context: ssl.SSLContext, stopped: threading.Event) -> None:
        with connect(
            self._url, ssl=context, open_timeout=_OPEN_TIMEOUT_S, max_size=MAX_CONTROL_BYTES,
            compression=None, proxy=None,
        ) as line:  # fmt: skip
            self._line = line
            self._log.info("camera_line_open")
            try:
                while not stopped.is_set():
                    try:
                        said = line.recv(timeout=_POLL_S)
                    except TimeoutError:
                        self._check_stream()
                        continue
                    self._obey(line, said)
            finally:
                self._line = None

    def _obey(self, line: ClientConnection, said: bytes | str) -> None:
        try:
            order = parse_order(said).order
        except InvalidInputError as error:
            self._log.warning("camera_order_unreadable", reason=error.message)
            return
        self._end_stream()
        if order == "start":
            self._stream = _Stream([self._program, *self._arguments], line)
            self._log.info("camera_started")

    def _check_stream(self) -> None:
        """Start ffmpeg anew when it ended by itself while someone watches."""
        stream = self._stream
        if stream is not None and stream.has_ended:
            raise InvalidInputError(f"ffmpeg: expected video, found its end: {stream.last_words()}")

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.end()
            self._log.info("camera_stopped")


class _Stream:
    """ffmpeg and the thread that carries what it writes to the line."""

    def __init__(self, command: list[str], line: ClientConnection) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call, safe between fork and exec
        )
        self._line = line
        self._thread = threading.Thread(target=self._carry, name="camera", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def last_words(self) -> str:
        errors = self._process.stderr
        return "" if errors is None else errors.read(500).decode(errors="replace").strip()

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(_END_TIMEOUT_S)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _carry(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        try:
            while chunk := output.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
                self._line.send(chunk)
        except (ConnectionClosed, OSError, ValueError):
            self._process.terminate()  # nobody takes it any more


def _die_with_parent() -> None:
    """Have the kernel end ffmpeg when the agent dies, however it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
