"""A TPM 2.0 in software (swtpm): made as a chip maker makes one, with power that can be cut."""

import contextlib
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Self

from fleetward.base.errors import MissingProgramError, UnavailableError

_START_TIMEOUT_S = 10.0
_COMMAND_TIMEOUT_S = 10.0
_PORT_TRIES = 20
# swtpm_ioctls(3): control commands, big-endian.
_CMD_INIT = struct.pack(">II", 2, 0)
_CMD_SHUTDOWN = struct.pack(">I", 3)
# TPM 2.0 Library, part 3, 9.3 and 9.4: Startup(CLEAR) and Shutdown(CLEAR), without sessions.
_TPM_STARTUP = bytes.fromhex("80010000000c000001440000")
_TPM_SHUTDOWN = bytes.fromhex("80010000000c000001450000")
_TPM_HEADER_BYTES = 10


def is_chip_available() -> bool:
    """Return whether swtpm and its manufacturing tools are installed."""
    return all(shutil.which(program) for program in ("swtpm", "swtpm_setup", "swtpm_localca"))


class ChipMaker:
    """Who makes chips: its CA signs every chip's endorsement key (EK) certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def issuers_pem(self) -> bytes:
        """The CA certificates that EK certificates lead to, once a chip was made."""
        names = ("swtpm-localca-rootca-cert.pem", "issuercert.pem")
        return b"".join((self._folder / name).read_bytes() for name in names)

    def make(self, state: Path) -> None:
        """Make a chip whose memory is the folder `state`; one that exists stays as it is.

        Raises:
            MissingProgramError: swtpm is not installed.
            UnavailableError: it failed.
        """
        if (state / "tpm2-00.permall").exists():
            return
        if not is_chip_available():
            raise MissingProgramError(
                "chip: expected swtpm_setup on this machine, found none",
                hint="apt-get install swtpm swtpm-tools",
            )
        for folder in (self._folder, state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [
            "swtpm_setup", "--tpm2", "--tpmstate", str(state), "--createek", "--create-ek-cert",
            "--create-platform-cert", "--lock-nvram", "--pcr-banks", "sha256", "--overwrite",
            "--config", str(self._write_settings()),
        ]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if made.returncode:
            raise UnavailableError(f"chip: expected swtpm_setup to make one, found: {made.stdout[-500:]}")

    def _write_settings(self) -> Path:
        maker = self._folder.resolve()
        (maker / "localca.conf").write_text(
            f"statedir = {maker}\nsigningkey = {maker}/signkey.pem\nissuercert = {maker}/issuercert.pem\n"
            f"certserial = {maker}/certserial\n"
        )
        (maker / "localca.options").write_text(
            "--platform-manufacturer Fleetward\n--platform-version 1.0\n--platform-model Demo\n"
        )
        settings = maker / "setup.conf"
        settings.write_text(
            f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
            f"create_certs_tool_config = {maker}/localca.conf\n"
            f"create_certs_tool_options = {maker}/localca.options\n"
            "active_pcr_banks = sha256\n"
        )
        return settings


class Chip:
    """A powered TPM. `tcti` tells tpm2-tss how to reach it; it stays the same over power cycles."""

    def __init__(self, state: Path) -> None:
        """Use the chip whose memory is in `state`, as `ChipMaker.make` left it."""
        self._state = state
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.power_on()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.power_off()

    @property
    def tcti(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self._port}"

    def power_on(self) -> None:
        """Give it power and start it up (TPM2_Startup), as a board's firmware does.

        Raises:
            UnavailableError: it does not come up.
        """
        for _ in range(_PORT_TRIES):
            self._port, control = _bind_neighbours()
            with control, (self._state / "swtpm.log").open("ab") as out:
                self._process = subprocess.Popen(
                    [
                        "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._state}",
                        "--flags", "not-need-init", "--server", f"type=tcp,port={self._port}",
                        "--ctrl", f"type=tcp,fd={control.fileno()}",
                    ],
                    pass_fds=[control.fileno()], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                )  # fmt: skip
            if self._is_answering():
                self._start_up()
                return
        raise UnavailableError(f"chip: expected swtpm to start, found: {self._read_log()}")

    def power_off(self) -> None:
        """Warn it (TPM2_Shutdown) and take its power."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError, UnavailableError):
            self._send(_TPM_SHUTDOWN)
        with contextlib.suppress(OSError, UnavailableError):
            self._control(_CMD_SHUTDOWN)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def power_cycle(self, *, cleanly: bool = True) -> None:
        """Off and on: PCRs are zero again, NV memory is kept.

        Without `cleanly` the chip gets no warning, as in a power cut; it counts that as a possible attack.
        """
        if cleanly:
            self._send(_TPM_SHUTDOWN)
        self._control(_CMD_INIT)
        self._start_up()

    def _start_up(self) -> None:
        code = self._send(_TPM_STARTUP)
        if code:
            raise UnavailableError(f"chip: expected TPM2_Startup to succeed, found code {code:#x}")

    def _is_answering(self) -> bool:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return True
        self.power_off()
        return False

    def _send(self, command: bytes) -> int:
        """Send a TPM command without sessions; return its response code."""
        answer = self._exchange(self._port, command, _TPM_HEADER_BYTES)
        return int(struct.unpack(">I", answer[6:10])[0])

    def _control(self, command: bytes) -> None:
        code = struct.unpack(">I", self._exchange(self._port + 1, command, 4)[:4])[0]
        if code:
            raise UnavailableError(f"chip: expected swtpm to obey, found code {code:#x}")

    def _exchange(self, port: int, command: bytes, least: int) -> bytes:
        answer = b""
        with socket.create_connection(("127.0.0.1", port), timeout=_COMMAND_TIMEOUT_S) as connection:
            connection.sendall(command)
            while len(answer) < least:
                more = connection.recv(4096)
                if not more:
                    raise UnavailableError("chip: expected an answer, found the connection closed")
                answer += more
        return answer

    def _read_log(self) -> str:
        return (self._state / "swtpm.log").read_text(errors="replace")[-500:]


def _bind_neighbours() -> tuple[int, socket.socket]:
    """Return a free port and a listener on the one after it, where tpm2-tss expects the control channel."""
    for _ in range(_PORT_TRIES):
        with socket.socket() as commands:
            commands.bind(("127.0.0.1", 0))
            port = int(commands.getsockname()[1])
            control = socket.socket()
            try:
                control.bind(("127.0.0.1", port + 1))
                control.listen(8)
            except (OSError, OverflowError):
                control.close()
            else:
                return port, control
    raise UnavailableError("chip: expected two free neighbouring ports, found none")
