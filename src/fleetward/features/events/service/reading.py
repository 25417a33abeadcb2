"""Reading on in the feed, in steps whose cost does not depend on how much of it the reader may not see."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from fleetward.base.db import Tx
from fleetward.base.events import Event
from fleetward.features.events import store

Placed: TypeAlias = tuple[Event, str | None]

# Rows one step walks past for a reader of some groups.
LOOK_AHEAD = 10_000


@dataclass(frozen=True)
class Page:
    """A step through the feed.

    Attributes:
        cursor: the id up to which the reader has now seen what is theirs; where the next step begins.
        is_last: whether there was no more when it was read.
    """

    events: list[Event]
    cursor: int
    is_last: bool


def read_page(
    tx: Tx,
    *,
    after: int,
    limit: int,
    device: str | None = None,
    since: datetime | None = None,
    groups: frozenset[str] | None = None,
) -> Page:
    """Return up to `limit` events with an id over `after`, oldest first.

    Args:
        groups: only events of devices that are in one of these groups now; None for all, also of no device.
    """
    if since is not None and after <= 0:
        first = store.find_first_since(tx, since)
        if first is None:
            return Page([], max(after, 0), is_last=True)
        after = first - 1
    if groups is None or device is not None:
        found = store.list_after(tx, after, limit=limit, device=device, since=since, groups=groups)
        return Page(found, found[-1].id if found else after, is_last=len(found) < limit)
    upto, rows = store.look_ahead(tx, after, rows=LOOK_AHEAD)
    found = store.list_after(tx, after, limit=limit, upto=upto, since=since, groups=groups)
    if len(found) == limit:
        return Page(found, found[-1].id, is_last=False)
    return Page(found, upto, is_last=rows < LOOK_AHEAD)


def read_placed(tx: Tx, *, after: int, limit: int) -> list[Placed]:
    """Return the next events, oldest first, each with the group its device is in now; None for no device."""
    return store.list_placed(tx, after, limit=limit)
