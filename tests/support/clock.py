"""A clock that tests move."""

from datetime import UTC, datetime, timedelta

from fleetward.base.clock import Clock


class ManualClock:
    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by

    def set(self, now: datetime) -> None:
        self._now = now


class OffsetClock:
    """A clock shifted by a fixed number of seconds, for a device whose own clock cannot be trusted."""

    def __init__(self, base: Clock, offset_s: float) -> None:
        self._base = base
        self._offset_s = offset_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._base.now().timestamp() + self._offset_s, UTC)
