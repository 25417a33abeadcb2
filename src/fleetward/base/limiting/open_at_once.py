"""How many of something one person or program may hold open at once."""

from collections import Counter
from threading import Lock

from fleetward.base.errors import RateLimitedError

_RETRY_AFTER_S = 10


class OpenLimit:
    """Counts what each holds open. Thread-safe; remembers only those who hold something.

    Args:
        what: names the limit in its refusal, e.g. "live streams".
    """

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._open: Counter[str] = Counter()
        self._lock = Lock()

    def enter(self, who: str) -> None:
        """Count one more. Raises RateLimitedError: `who` holds as many as one may."""
        with self._lock:
            if self._open[who] < self._most:
                self._open[who] += 1
                return
        raise RateLimitedError(
            f"{self._what} of {who}: expected at most {self._most} at once, found as many open",
            retry_after_s=_RETRY_AFTER_S,
        )

    def leave(self, who: str) -> None:
        """Uncount one that was entered."""
        with self._lock:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]
