"""Time. The only place that asks the system for it."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from fleetward.base.errors import InvalidInputError

# Machines of one platform disagree by less on what time it is.
MAX_LEAD = timedelta(seconds=30)


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 - the one place


def is_ahead(at: datetime, now: datetime) -> bool:
    """Whether a time we noted ourselves lies ahead of us: the clock has been set back since.

    Such a time proves nothing, and holds nobody back: how long ago it was cannot be told.
    """
    return at - now > MAX_LEAD


def render_time(at: datetime) -> str:
    """Return RFC 3339 text in UTC with milliseconds, e.g. `2026-11-23T17:00:00.000Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def render_time_or_none(at: datetime | None) -> str | None:
    """Return a time as `render_time` does, and None for none."""
    return None if at is None else render_time(at)


def parse_time(text: str) -> datetime:
    """Return the UTC time of an RFC 3339 text.

    Raises:
        InvalidInputError: not RFC 3339, or without an offset.
    """
    try:
        at = datetime.fromisoformat(text)
        in_utc = at.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # the latter: an offset that leaves the years 1 to 9999
        raise InvalidInputError(
            f"time: expected RFC 3339 such as 2026-11-23T17:00:00Z, found {text[:40]!r}"
        ) from error
    if at.tzinfo is None:
        raise InvalidInputError(f"time {text[:40]!r}: expected an offset such as Z, found none")
    return in_utc


def say_time(at: datetime) -> str:
    """Return a time as people read it, to the second: `2026-06-01 12:00:00 UTC`."""
    return render_time(at)[:19].replace("T", " ") + " UTC"
