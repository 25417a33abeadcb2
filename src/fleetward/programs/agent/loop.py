"""The agent's one thread of decisions: what was posted, and timers. Workers do what blocks.

Everything that decides runs here, so nothing in the agent needs a lock. A worker's work returns a value, also
for a failure it expects; an error it does not expect stops the agent, whose supervisor starts it again.
"""

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
_LONGEST_WAIT_S = 3600.0


@dataclass(order=True)
class Timer:
    """A call that is due at `due_s` of the monotonic clock, unless cancelled."""

    due_s: float
    order: int
    call: Callable[[], None] = field(compare=False)
    is_cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """Runs calls one after the other until `stop`."""

    def __init__(self) -> None:
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._timers: list[Timer] = []
        self._order = itertools.count()
        self._is_stopping = False

    def post(self, call: Callable[[], None]) -> None:
        """Have the loop make `call`; from any thread, and from signal handlers."""
        self._posted.put(call)

    def after(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Have the loop make `call` in `delay_s` seconds; from the loop alone."""
        timer = Timer(time.monotonic() + max(delay_s, 0.0), next(self._order), call)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        """End `run` before the next call; from any thread, and from signal handlers."""
        self._is_stopping = True
        self.post(lambda: None)

    def run(self) -> None:
        while not self._is_stopping:
            call = self._next()
            if call is not None and not self._is_stopping:
                call()

    def _next(self) -> Callable[[], None] | None:
        while self._timers and self._timers[0].is_cancelled:
            heapq.heappop(self._timers)
        wait_s = _LONGEST_WAIT_S
        if self._timers:
            wait_s = self._timers[0].due_s - time.monotonic()
            if wait_s <= 0:
                return heapq.heappop(self._timers).call
        try:
            return self._posted.get(timeout=wait_s)
        except queue.Empty:
            return None


class Worker:
    """A thread that does blocking work in order and posts what came of it. It dies with the process."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do `work` in the worker's thread, then call `done` with its value in the loop."""

        def act() -> None:
            try:
                value = work()
            except BaseException as error:  # noqa: BLE001 - carried to the loop, which dies of it
                self._loop.post(_raiser(error))
            else:
                self._loop.post(lambda: done(value))

        self._work.put(act)

    def _run(self) -> None:
        while True:
            self._work.get()()


def _raiser(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail
