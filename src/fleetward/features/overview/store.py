"""Overview's SQL: saved filters, acknowledgements, and the events nobody has acknowledged."""

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import IdQuery, RowId, Timestamp, Tx, is_among, metadata
from fleetward.base.events import IS_ALERTING, Event, as_event, events_table
from fleetward.features.overview.model.alerts import MAX_NOTE_CHARS, Acknowledgement
from fleetward.features.overview.model.filters import SavedFilter

filters = sa.Table(
    "overview_filters",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("filter", sa.Text, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.UniqueConstraint("owner", "name", name="uq_overview_filters_owner_name"),
)
acknowledgements = sa.Table(
    "overview_acknowledgements",
    metadata,
    sa.Column("event", RowId, primary_key=True, autoincrement=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("note", sa.String(MAX_NOTE_CHARS), nullable=False),
    sa.Column("at", Timestamp, nullable=False),
)


def insert_filter(tx: Tx, saved: SavedFilter) -> None:
    tx.conn.execute(
        filters.insert().values(
            id=saved.id,
            owner=saved.owner,
            name=saved.name,
            filter=json.dumps(saved.filter, separators=(",", ":"), sort_keys=True),
            created_at=saved.created_at,
        )
    )


def list_filters(tx: Tx, owner: str) -> list[SavedFilter]:
    query = filters.select().where(filters.c.owner == owner).order_by(filters.c.name)
    return [
        SavedFilter(row.id, row.owner, row.name, json.loads(row.filter), row.created_at)
        for row in tx.conn.execute(query)
    ]


def delete_filter(tx: Tx, owner: str, filter_id: str) -> bool:
    gone = tx.conn.execute(filters.delete().where(filters.c.id == filter_id, filters.c.owner == owner))
    return gone.rowcount == 1


def find_event(tx: Tx, number: int, among: IdQuery | None) -> Event | None:
    """Return an event, of a device in `among` where it is given."""
    query = events_table.select().where(events_table.c.id == number, *_visible(among))
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else as_event(row)


def find_acknowledgement(tx: Tx, number: int) -> Acknowledgement | None:
    query = acknowledgements.select().where(acknowledgements.c.event == number)
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else Acknowledgement(row.event, row.actor, row.note, row.at)


def insert_acknowledgement(tx: Tx, one: Acknowledgement) -> None:
    tx.conn.execute(
        acknowledgements.insert().values(event=one.event, actor=one.actor, note=one.note, at=one.at)
    )


def forget_acknowledgements(tx: Tx) -> None:
    """Delete those of events that the feed has forgotten."""
    is_kept = sa.exists().where(events_table.c.id == acknowledgements.c.event)
    tx.conn.execute(acknowledgements.delete().where(~is_kept))


def list_alerts(tx: Tx, since: datetime, among: IdQuery | None, *, limit: int) -> tuple[int, list[Event]]:
    """Return how many alerting events since then nobody acknowledged, and the newest of them."""
    where = (
        IS_ALERTING,
        events_table.c.at >= since,
        events_table.c.id.not_in(sa.select(acknowledgements.c.event)),
        *_visible(among),
    )
    count = tx.conn.execute(sa.select(sa.func.count()).select_from(events_table).where(*where)).scalar_one()
    newest = events_table.select().where(*where).order_by(events_table.c.at.desc()).limit(limit)
    return count, [as_event(row) for row in tx.conn.execute(newest)]


def list_device_events(tx: Tx, device_id: str, kinds: tuple[str, ...], *, limit: int) -> list[Event]:
    """Return a device's events of these kinds, newest first."""
    query = (
        events_table.select()
        .where(events_table.c.device == device_id, events_table.c.kind.in_(kinds))
        .order_by(events_table.c.id.desc())
        .limit(limit)
    )
    return [as_event(row) for row in tx.conn.execute(query)]


def _visible(among: IdQuery | None) -> tuple[Any, ...]:
    """Who may see some groups only sees the events of their devices, not those of the platform."""
    return () if among is None else (is_among(events_table.c.device, among),)
