"""Work that takes long, in threads of its own: whoever asks for much of it slows nobody else."""

import asyncio
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import Lock
from typing import TypeVar

from fleetward.base.errors import RateLimitedError

T = TypeVar("T")
_RETRY_AFTER_S = 2
# Below everything else of the process, which goes on answering while all of this is under way.
NICENESS = 10


class SlowWork:
    """At most `threads` pieces of work at once, and `waiting` more that wait for their turn.

    It runs at a lower priority than the rest of the process. Thread-safe. Never run it in the threads that
    routes share: these would all stand still in the queue.

    Args:
        what: names the limit in its refusal, e.g. "password checks".
        each: how many places one asker may hold of all.
    """

    def __init__(self, what: str, *, threads: int, waiting: int, each: int) -> None:
        self._what, self._most, self._each = what, threads + waiting, each
        self._threads = ThreadPoolExecutor(
            threads, thread_name_prefix=what.replace(" ", "-"), initializer=_step_back
        )
        self._held: Counter[str] = Counter()
        self._lock = Lock()

    async def run(self, who: str, work: Callable[[], T]) -> T:
        """Return what `work` returned, in the caller's context.

        A caller that goes away leaves its place only when the work is done, or was not yet begun.

        Raises:
            RateLimitedError: all places are taken, or as many by `who` as one may hold.
        """
        self._enter(who)
        try:
            future = self._threads.submit(partial(copy_context().run, work))
        except RuntimeError:
            self._leave(who)
            raise
        future.add_done_callback(lambda _done: self._leave(who))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Take no more work; what has not begun is cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _enter(self, who: str) -> None:
        with self._lock:
            held = self._held[who]
            if held < self._each and self._held.total() < self._most:
                self._held[who] += 1
                return
        most, found = (self._each, "of yours") if held >= self._each else (self._most, "in all")
        raise RateLimitedError(
            f"{self._what}: expected at most {most} at once {found}, found as many",
            hint="Try again in a moment.",
            retry_after_s=_RETRY_AFTER_S,
        )

    def _leave(self, who: str) -> None:
        with self._lock:
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]


def _step_back() -> None:
    """Have this thread, and what it starts, run after others. Linux alone gives a thread its own priority."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
