"""Watches over the two children of the boot stage: the agent, and the application from the active slot.

| what ends | in a trial | otherwise |
|---|---|---|
| the agent, with 75 | reboot | reboot |
| the agent, otherwise | started again, after growing pauses | the same |
| the application | reboot: the try is lost | verified again, then started again after growing pauses |
| us, by SIGTERM | both get SIGTERM, ten seconds later SIGKILL | the same |
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleetward.programs.agent.log import AgentLog

EXIT_REBOOT = 75
_WATCHED = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})
_GRACE_S = 10.0
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_STEADY_S = 60.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Program:
    """What to run. `environment` is added to ours."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    pause_s: float = _FIRST_PAUSE_S
    resume_at_s: float = 0.0


class Supervisor:
    """Runs until it is told to stop, or to reboot."""

    def __init__(
        self,
        agent: Program,
        application: Program | None,
        *,
        is_on_trial: Callable[[], bool],
        may_start: Callable[[], bool],
        log: AgentLog,
    ) -> None:
        """Watch `agent` and, unless the device is degraded, `application`.

        Args:
            is_on_trial: whether the firmware still has to prove itself.
            may_start: whether the slot still holds the firmware that was verified; asked before each restart.
        """
        self._agent = _Child(agent)
        self._application = None if application is None else _Child(application)
        self._is_on_trial = is_on_trial
        self._may_start = may_start
        self._log = log

    def run(self) -> int:
        """Start both and return the exit code: 75 to reboot, 0 when we were told to stop.

        Signals are taken synchronously, so none is lost between a check and a wait. For the main thread.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            self._start(self._agent)
            if self._application is not None:
                self._start(self._application)
            while True:
                code = self._turn()
                if code is not None:
                    return code
                caught = signal.sigtimedwait(_WATCHED, self._wait_s())
                if caught is not None and caught.si_signo != signal.SIGCHLD:
                    return 0
        finally:
            self._stop()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _turn(self) -> int | None:
        """Look after both children once; return our exit code when it is over."""
        ended = self._take_exit(self._agent)
        if ended == EXIT_REBOOT:
            self._log.info("reboot_asked")
            return EXIT_REBOOT
        self._restart(self._agent)
        application = self._application
        if application is None:
            return None
        ended = self._take_exit(application)
        if ended is not None and self._is_on_trial():
            self._log.warning("trial_failed", reason=f"the application ended with {ended}")
            return EXIT_REBOOT
        if application.process is None and time.monotonic() >= application.resume_at_s:
            if not self._may_start():
                self._log.error("firmware_changed", reason="the slot no longer holds what was verified")
                return EXIT_REBOOT
            self._restart(application)
        return None

    def _take_exit(self, child: _Child) -> int | None:
        """Return the code a running child has ended with since the last look."""
        code = None if child.process is None else child.process.poll()
        if code is None:
            return None
        lived_s = time.monotonic() - child.started_s
        child.pause_s = _FIRST_PAUSE_S if lived_s > _STEADY_S else min(child.pause_s * 2, _LONGEST_PAUSE_S)
        child.resume_at_s = time.monotonic() + child.pause_s
        child.process = None
        if code != EXIT_REBOOT:
            self._log.warning("child_ended", child=child.program.name, code=code, pause_s=child.pause_s)
        return code

    def _restart(self, child: _Child) -> None:
        if child.process is None and time.monotonic() >= child.resume_at_s:
            self._start(child)

    def _start(self, child: _Child) -> None:
        program = child.program
        child.started_s = time.monotonic()
        try:
            child.process = subprocess.Popen(
                program.command,
                cwd=program.folder,
                env={**os.environ, **program.environment},
                stdin=subprocess.DEVNULL,
                preexec_fn=_prepare_child,  # noqa: PLW1509 - we have no threads
            )
        except (OSError, subprocess.SubprocessError) as error:
            child.pause_s = min(child.pause_s * 2, _LONGEST_PAUSE_S)
            child.resume_at_s = time.monotonic() + child.pause_s
            self._log.error("child_not_started", child=program.name, reason=str(error))

    def _wait_s(self) -> float:
        """Return how long nothing will be due, unless a signal comes."""
        now_s = time.monotonic()
        waiting = [self._agent, *([self._application] if self._application is not None else [])]
        due = [child.resume_at_s - now_s for child in waiting if child.process is None]
        return max(0.05, min([_LONGEST_PAUSE_S, *due]))

    def _stop(self) -> None:
        """End both: the application first hears of it together with the agent, and both get ten seconds."""
        children = [self._agent, *([self._application] if self._application is not None else [])]
        processes = [child.process for child in children if child.process is not None]
        for process in processes:
            process.terminate()
        end_s = time.monotonic() + _GRACE_S
        for process in processes:
            try:
                process.wait(max(0.0, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _prepare_child() -> None:
    """Give the child all signals, and have it die with us: no firmware runs unwatched (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
