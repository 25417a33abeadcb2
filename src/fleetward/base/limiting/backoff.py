"""How long somebody is held back after failures in a row: exponential, and forgotten with time."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetward.base.clock import is_ahead


@dataclass(frozen=True)
class Limit:
    """`free` failures cost nothing; each further one doubles the wait from 2 s up to `longest`."""

    free: int
    longest: timedelta
    forgotten_after: timedelta

    def wait_after(self, failures: int) -> timedelta:
        """Return how long nobody may try after this many failures in a row."""
        over = failures - self.free
        if over <= 0:
            return timedelta(0)
        return min(self.longest, timedelta(seconds=2 ** min(over, 30)))


@dataclass(frozen=True)
class Failures:
    """What is remembered of whoever failed."""

    count: int
    last_failed_at: datetime
    blocked_until: datetime

    def is_blocked(self, now: datetime) -> bool:
        """Whether nobody may try yet; what was counted by a clock that has been set back holds nobody."""
        return now < self.blocked_until and not is_ahead(self.last_failed_at, now)


def count_failure(before: Failures, limit: Limit, now: datetime) -> Failures:
    """Return what is remembered after one more failure at `now`."""
    is_fresh = (
        not is_ahead(before.last_failed_at, now) and now - before.last_failed_at < limit.forgotten_after
    )
    count = (before.count if is_fresh else 0) + 1
    return Failures(count, now, now + limit.wait_after(count))
