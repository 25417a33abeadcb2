"""Slows whoever tries again and again. Per process; each counts for itself."""

from collections import OrderedDict, deque
from threading import Lock

from fleetward.base.errors import RateLimitedError

MAX_KEYS = 10_000


class FailureLimit:
    """Counts failures per key over a sliding window. Thread-safe; each act costs the same.

    Of `max_keys` keys the one that failed longest ago makes room for a new one.

    Args:
        what: names the limit in its refusal, e.g. "enrollment".
    """

    def __init__(
        self, what: str, *, failures: int = 10, window_s: float = 60.0, max_keys: int = MAX_KEYS
    ) -> None:
        self._what = what
        self._failures = failures
        self._window_s = window_s
        self._max_keys = max_keys
        self._seen: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()  # oldest failure first
        self._lock = Lock()

    def check(self, key: tuple[str, ...], now_s: float) -> None:
        """Pass while `key` has failures left.

        Raises:
            RateLimitedError: it has none; `retry_after_s` in details says when it has.
        """
        with self._lock:
            recent = self._recent(key, now_s)
            if len(recent) < self._failures:
                return
            wait_s = max(1, round(recent[0] + self._window_s - now_s))
        raise RateLimitedError(
            f"{self._what}: expected fewer than {self._failures} failed attempts in {self._window_s:.0f} s, "
            "found more",
            retry_after_s=wait_s,
        )

    def record(self, key: tuple[str, ...], now_s: float) -> None:
        """Count one failure."""
        with self._lock:
            recent = self._recent(key, now_s)
            recent.append(now_s)
            self._seen[key] = recent
            self._seen.move_to_end(key)
            if len(self._seen) > self._max_keys:
                self._seen.popitem(last=False)

    def __len__(self) -> int:
        return len(self._seen)

    def _recent(self, key: tuple[str, ...], now_s: float) -> deque[float]:
        # The newest decide: so many that the oldest of them is still in the window.
        recent = self._seen.get(key)
        if recent is None:
            return deque(maxlen=self._failures)
        while recent and recent[0] <= now_s - self._window_s:
            recent.popleft()
        return recent
