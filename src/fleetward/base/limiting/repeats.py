"""Keeps whoever is refused again and again from filling the events: equal refusals become one, counted."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

MAX_KEYS = 10_000


@dataclass
class _Told:
    last_s: float
    held_back: int


class Repeats:
    """Says whether something that repeats is worth telling now. Thread-safe; each act costs the same.

    What was held back is counted until the next one is told, however long that takes. Of `max_keys` keys the
    one told longest ago makes room for a new one, and its count goes with it.
    """

    def __init__(self, *, interval_s: float = 10.0, max_keys: int = MAX_KEYS) -> None:
        self._interval_s = interval_s
        self._max_keys = max_keys
        self._told: OrderedDict[tuple[str, ...], _Told] = OrderedDict()  # oldest telling first
        self._lock = Lock()

    def admit(self, key: tuple[str, ...], now_s: float) -> int | None:
        """Return how many equal ones were held back since the last one told, or None to hold this one too.

        Args:
            key: what makes two equal: kind, whom it concerns, cause: `("session.refused", "cam-1", …)`.
            now_s: any clock in seconds that only moves forward.
        """
        with self._lock:
            told = self._told.get(key)
            if told is None:
                if len(self._told) >= self._max_keys:
                    self._told.popitem(last=False)
                self._told[key] = _Told(now_s, 0)
                return 0
            if now_s - told.last_s < self._interval_s:
                told.held_back += 1
                return None
            held_back, told.last_s, told.held_back = told.held_back, now_s, 0
            self._told.move_to_end(key)
            return held_back

    def give_back(self, key: tuple[str, ...], repeats: int) -> None:
        """Count one that was admitted, and what it would have told of, as held back: it could not be told."""
        with self._lock:
            told = self._told.get(key)
            if told is not None:
                told.held_back += repeats + 1

    def __len__(self) -> int:
        return len(self._told)
