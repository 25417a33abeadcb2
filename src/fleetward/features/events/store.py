"""Rows of the feed; `base.events` declares the table, because every feature writes it."""

from datetime import datetime

import sqlalchemy as sa

from fleetward.base.db import RowId, Timestamp, Tx, insert_new, metadata
from fleetward.base.events import Event, as_event, events_table

heard = sa.Table(
    "events_heard",
    metadata,
    sa.Column("handler", sa.String(64), primary_key=True),
    sa.Column("event", RowId, primary_key=True, autoincrement=False),
    sa.Column("event_at", Timestamp, primary_key=True),
    sa.Column("at", Timestamp, nullable=False, index=True),
)

_events = events_table.c
# The registry's, named here for one join: whose events somebody may see depends on the device's group now.
_devices = sa.table("devices", sa.column("id"), sa.column("group"))

_PLACED = (
    sa.select(events_table, _devices.c.group.label("place"))
    .select_from(events_table.outerjoin(_devices, _devices.c.id == _events.device))
    .where(_events.id > sa.bindparam("after"))
    .order_by(_events.id)
    .limit(sa.bindparam("most"))
)


def list_after(
    tx: Tx,
    after: int,
    *,
    limit: int,
    upto: int | None = None,
    device: str | None = None,
    since: datetime | None = None,
    groups: frozenset[str] | None = None,
) -> list[Event]:
    """Return up to `limit` events with an id over `after`, not over `upto`, oldest first."""
    query = events_table.select().where(_events.id > after).order_by(_events.id).limit(limit)
    if upto is not None:
        query = query.where(_events.id <= upto)
    if device is not None:
        query = query.where(_events.device == device)
    if since is not None:
        query = query.where(_events.at >= since)
    if groups is not None:
        # Looked up row by row: the rows are few, the devices of a group may be 100,000.
        its_device = sa.select(_devices.c.id).where(
            _devices.c.id == _events.device, _devices.c.group.in_(sorted(groups))
        )
        query = query.where(its_device.exists())
    return [as_event(row) for row in tx.conn.execute(query)]


def list_placed(tx: Tx, after: int, *, limit: int) -> list[tuple[Event, str | None]]:
    """Return up to `limit` events with an id over `after`, oldest first, with the groups of their devices."""
    return [(as_event(row), row.place) for row in tx.conn.execute(_PLACED, {"after": after, "most": limit})]


def look_ahead(tx: Tx, after: int, *, rows: int) -> tuple[int, int]:
    """Return the last id among the next `rows` events, and how many there are; `after` and 0 when none."""
    ahead = sa.select(_events.id).where(_events.id > after).order_by(_events.id).limit(rows).subquery()
    last, count = tx.conn.execute(sa.select(sa.func.max(ahead.c.id), sa.func.count())).one()
    return (after, 0) if last is None else (int(last), int(count))


def find_first_since(tx: Tx, since: datetime) -> int | None:
    """Return the lowest id of an event at or after `since`."""
    found = tx.conn.execute(sa.select(sa.func.min(_events.id)).where(_events.at >= since)).scalar()
    return None if found is None else int(found)


def delete_oldest(tx: Tx, *, before: datetime, most_kept: int, limit: int) -> int:
    """Delete up to `limit` published events that are too old or too many, but the newest; return how many."""
    newest = tx.conn.execute(sa.select(sa.func.max(_events.id))).scalar()
    if newest is None:
        return 0
    over = sa.or_(_events.at < before, _events.id <= newest - most_kept)
    oldest = (
        sa.select(_events.id)
        .where(over, _events.published_at.is_not(None), _events.id != newest)
        .order_by(_events.id)
        .limit(limit)
    )
    return tx.conn.execute(events_table.delete().where(_events.id.in_(oldest))).rowcount


def note_heard(tx: Tx, handler: str, event: int, event_at: datetime) -> bool:
    """Note that a handler has handled an event; return False when it had before."""
    return insert_new(tx, heard, {"handler": handler, "event": event, "event_at": event_at, "at": tx.now})


def forget_heard(tx: Tx, before: datetime) -> None:
    tx.conn.execute(heard.delete().where(heard.c.at < before))
