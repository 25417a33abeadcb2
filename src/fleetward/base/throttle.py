"""Keeps an attacker from filling the event table: repeats of one refusal become one row with a count."""

from dataclasses import dataclass
from threading import Lock

_MAX_KEYS = 10_000


@dataclass
class _Seen:
    last_s: float
    suppressed: int


class RefusalThrottle:
    """Says whether a refusal is worth a row now. Thread-safe; holds at most 10,000 keys."""

    def __init__(self, *, interval_s: float = 10.0) -> None:
        self._interval_s = interval_s
        self._seen: dict[tuple[str, ...], _Seen] = {}
        self._lock = Lock()

    def admit(self, key: tuple[str, ...], now_s: float) -> int | None:
        """Return how many equal refusals were held back since the last row, or None to hold this one too.

        Args:
            key: what makes two refusals equal, e.g. `("session.refused", "cam-1", "certificate_revoked")`.
            now_s: any clock in seconds that only moves forward.
        """
        with self._lock:
            seen = self._seen.get(key)
            if seen is not None and now_s - seen.last_s < self._interval_s:
                seen.suppressed += 1
                return None
            if seen is None and len(self._seen) >= _MAX_KEYS:
                oldest = min(self._seen, key=lambda item: self._seen[item].last_s)
                del self._seen[oldest]
            self._seen[key] = _Seen(now_s, 0)
            return seen.suppressed if seen else 0
