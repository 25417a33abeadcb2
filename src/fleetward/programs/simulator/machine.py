"""A device with a power switch: its chip, and the boot stage that runs whenever it has power."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from fleetward.programs.simulator.chip import Chip

# What the boot stage answers to ask for a reboot (docs/reference/agent-config.md).
EXIT_REBOOT = 75
_STOP_TIMEOUT_S = 15
_PAUSE_AFTER_CRASH_S = 2.0


class Machine:
    """Runs `fleetward agent boot` as its firmware would, and starts it anew after every reboot.

    Attributes:
        boots: how often it has booted since it was made.
    """

    def __init__(
        self,
        config: Path,
        *,
        chip: Chip | None = None,
        log: Path | None = None,
        environment: dict[str, str] | None = None,
        tell: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Use the agent settings in `config`. `tell` hears of boots and reboots, in the machine's thread.

        Args:
            chip: powered, for others to ask it while the machine is off; every boot after the first finds its
                PCRs at zero.
            log: what boot stage, agent and application print; None inherits ours.
            environment: set for them besides our own.
        """
        self.boots = 0
        self._config = config
        self._chip = chip
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._tell = tell
        self._is_on = threading.Event()
        self._wake = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process of the boot stage, which leads the group of all that runs on this machine."""
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        """Give it power; it boots in a thread of its own."""
        self._is_on.set()
        self._wake.clear()
        if self._chip is not None and self.boots:
            self._chip.power_cycle()
        self._spawn()
        self._thread = threading.Thread(target=self._supervise, name="machine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Shut it down in good order; what does not obey within 15 s is killed."""
        self._is_on.clear()
        self._wake.set()
        child = self._child
        if child is not None:
            child.terminate()
            try:
                child.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._kill_all()
        self._join()

    def cut_power(self) -> None:
        """Everything stops at once (SIGKILL); the chip forgets its PCRs without a warning."""
        self._is_on.clear()
        self._wake.set()
        self._kill_all()
        self._join()
        if self._chip is not None:
            self._chip.power_cycle(cleanly=False)

    def _supervise(self) -> None:
        while True:
            child = self._child
            if child is None:
                return
            code = child.wait()
            self._kill_all()  # the kernel's part: nothing outlives its boot
            if not self._is_on.is_set():
                return
            if code == EXIT_REBOOT:
                self._tell("The device reboots.")
            else:
                self._tell(f"The boot stage ended with code {code}; the machine starts it again.")
                self._wake.wait(_PAUSE_AFTER_CRASH_S)
            if not self._is_on.is_set():
                return
            if self._chip is not None:
                self._chip.power_cycle()
            self._spawn()

    def _spawn(self) -> None:
        command = [sys.executable, "-m", "fleetward", "agent", "boot", "--config", str(self._config)]
        with contextlib.ExitStack() as stack:
            out = None if self._log is None else stack.enter_context(self._log.open("ab"))
            self._child = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self.boots += 1

    def _kill_all(self) -> None:
        child = self._child
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._child, self._thread = None, None
