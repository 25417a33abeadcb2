"""What one start of an ability is given: settings, time, log, and ways to have the agent do things.

Timers, posted calls and work belong to that start. When it has ended, they are dropped, so that an ability
made anew never hears of what its forerunner began; the thread that does the work is kept, so that the new one
waits until the old work is done.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from fleetward.outside.tls.client import TlsIdentity
from fleetward.programs.agent.abilities.ability import Reading
from fleetward.programs.agent.loop import Timer, Worker
from fleetward.programs.agent.parts import Parts

T = TypeVar("T")
# Calls in the name of an ability: what it was doing, and the call.
Guard = Callable[[str, Callable[[], object]], None]


class Core(Protocol):
    """What the agent does for its abilities."""

    @property
    def is_degraded(self) -> bool:
        """Whether the boot stage found no firmware it may start."""
        ...

    @property
    def queued_bytes(self) -> int:
        """How much waits for the platform."""
        ...

    def identity(self) -> TlsIdentity | None:
        """Return what to connect with now; None without a valid certificate."""
        ...

    def put(self, reading: Reading) -> None:
        """Send a reading up, through the abilities' stages."""
        ...

    def state_of(self, section: str, value: dict[str, Any] | None) -> None:
        """Report `value` as a section of the shadow from now on; None removes it."""
        ...

    def connect_now(self) -> None:
        """Try a session again at once."""
        ...

    def reboot(self, reason: str) -> None:
        """End the agent so that the device restarts."""
        ...

    def changed(self) -> None:
        """Write the status file soon."""
        ...


class Tools:
    """Made by the edge for each start of an ability.

    Attributes:
        core: the agent, as far as abilities may use it.
        config, clock, log, http: as in `Parts`.
    """

    def __init__(self, parts: Parts, core: Core, guard: Guard, worker: Callable[[], Worker]) -> None:
        self.core = core
        self.config, self.clock = parts.config, parts.clock
        self.log, self.http = parts.log, parts.http
        self._loop = parts.loop
        self._guard = guard
        self._worker = worker

    def changed(self) -> None:
        """Write the status file soon."""
        self.core.changed()

    def after(self, delay_s: float, call: Callable[[], object]) -> Timer:
        """Have the loop make `call` in `delay_s` seconds; from the loop alone."""
        return self._loop.after(delay_s, lambda: self._guard("timer", call))

    def post(self, call: Callable[[], object]) -> None:
        """Have the loop make `call`; from any thread."""
        self._loop.post(lambda: self._guard("post", call))

    def submit(self, work: Callable[[], T], done: Callable[[T], object]) -> None:
        """Do `work` in the ability's own thread, in order, then call `done` with its value in the loop."""
        self._worker().submit(lambda: _attempt(work), lambda take: self._guard("work", lambda: done(take())))

    def run_thread(self, name: str, work: Callable[[], object]) -> None:
        """Do `work` in a thread that ends with it, or with the process."""

        def run() -> None:
            take = _attempt(work)
            self._loop.post(lambda: self._guard("thread", take))

        threading.Thread(target=run, name=name, daemon=True).start()


def _attempt(work: Callable[[], T]) -> Callable[[], T]:
    """Do `work`; return a call that gives its value, or raises what it raised."""
    try:
        value = work()
    except Exception as error:  # noqa: BLE001 - raised again at the edge, which names whose it is
        return partial(_raise, error)
    return lambda: value


def _raise(error: Exception) -> Any:
    raise error
