"""The device's best knowledge of the time: its own clock, or what the platform signed."""

import time
from datetime import UTC, datetime, timedelta

from fleetward.base.clock import Clock

_AGREEMENT = timedelta(seconds=5)


class DeviceClock:
    """A clock that can be corrected. It counts on from a correction by the monotonic clock.

    When the system's clock comes to agree (set by NTP, say) the correction is dropped. Thread-safe.
    """

    def __init__(self, system: Clock) -> None:
        self._system = system
        self._anchor: tuple[float, float] | None = None

    def is_off(self) -> bool:
        """Return whether the system's clock is known to be wrong."""
        self.now()
        return self._anchor is not None

    def now(self) -> datetime:
        anchor = self._anchor
        system = self._system.now()
        if anchor is None:
            return system
        at_s, since_s = anchor
        corrected = datetime.fromtimestamp(at_s + time.monotonic() - since_s, UTC)
        if abs(corrected - system) < _AGREEMENT:
            self._anchor = None
            return system
        return corrected

    def correct(self, at: datetime) -> None:
        """Take `at` as the time now."""
        self._anchor = (at.timestamp(), time.monotonic())
