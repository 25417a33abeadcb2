"""Group commit: small transactions of many threads that share one commit, for SQLite's one writer.

Whoever comes first leads: it takes what waits with it, runs each piece of work in a savepoint of its own,
commits once, and hands the lead to the next that waits. So there is one writer at a time, no queue where
nobody waits, and no thread to hand over to. Each caller gets its own result or its own error; one that fails
takes nothing of the others with it. Only when the database itself fails do all of a group.
"""

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fleetward.base.errors import UnavailableError

T = TypeVar("T")

_RETRY_AFTER_S = 1


@dataclass(eq=False)
class Job(Generic[T]):
    """A piece of work that waits for its commit.

    Attributes:
        value, error: what came of it; one of them once it is done.
    """

    actor: str
    work: Callable[[Any], T]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    woken: threading.Event = field(default_factory=threading.Event)
    is_done: bool = False
    value: T | None = None
    error: Exception | None = None


class GroupWriter:
    """Runs work of many threads in few transactions."""

    def __init__(
        self,
        open_group: Callable[[], AbstractContextManager[Callable[[Job[Any]], None]]],
        *,
        max_waiting: int = 1_000,
        max_together: int = 64,
    ) -> None:
        """Prepare to write.

        Args:
            open_group: opens a transaction that commits when its block ends, and gives what runs one job in a
                savepoint of it, leaving value or error in the job; that raises when all of the group is lost.
            max_together: how many share a commit.
        """
        self._max_waiting = max_waiting
        self._max_together = max_together
        self._open_group = open_group
        self._lock = threading.Lock()
        self._waiting: deque[Job[Any]] = deque()
        self._is_led = False

    def run(self, actor: str, work: Callable[[Any], T]) -> T:
        """Return what `work` returned, once it is committed; raise what it raised, once it is undone.

        Raises:
            UnavailableError: too many wait already, or the database does not commit.
        """
        job = Job(actor, work)
        with self._lock:
            if len(self._waiting) >= self._max_waiting:
                raise UnavailableError(
                    f"database: expected at most {self._max_waiting} writers to wait, found more",
                    retry_after_s=_RETRY_AFTER_S,
                )
            self._waiting.append(job)
            leads, self._is_led = not self._is_led, True
        if not leads:
            job.woken.wait()
        if not job.is_done:
            self._lead()
        if job.error is not None:
            raise job.error
        return job.value  # type: ignore[return-value] # a job that is done without error has its value

    def _lead(self) -> None:
        with self._lock:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_together))]
        try:
            with self._open_group() as run_one:
                for job in group:
                    run_one(job)
        except Exception as error:  # noqa: BLE001 - it reaches each caller
            for job in group:
                job.error = job.error or error
        except BaseException:  # ours alone to leave by; the others must not take it for a commit
            for job in group:
                job.error = job.error or UnavailableError(
                    "database: expected a commit, found the writer ended"
                )
            raise
        finally:
            self._pass_on(group)

    def _pass_on(self, group: list[Job[Any]]) -> None:
        with self._lock:
            heir = self._waiting[0] if self._waiting else None
            self._is_led = heir is not None
        for job in group:
            job.is_done = True
            job.woken.set()
        if heir is not None:
            heir.woken.set()
