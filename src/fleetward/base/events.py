"""Events: what happened, told to people and to the rooms above.

An event is a row written in the same transaction as the change it tells of (an outbox). A publisher
carries rows to JetStream at least once; handlers are idempotent. Rooms below never import rooms above:
they emit, the rooms above subscribe.

Ids are given in the order of the commits, so whoever has read up to an id has all below it: rows are
written as the last thing a transaction does, on PostgreSQL under a lock that it holds until it has committed
(there a sequence gives ids long before the commit).
See docs/decisions/0011-events-in-the-order-of-commits.md.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from fleetward.base.clock import render_time
from fleetward.base.db import RowId, Timestamp, Tx, metadata

MAX_MESSAGE_CHARS = 500
MAX_DETAILS_CHARS = 8_000
_ALERTING = sa.text("severity IN ('warning', 'critical')")

events_table = sa.Table(
    "events",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=True),
    sa.Column("at", Timestamp, nullable=False, index=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("device", sa.String(64), nullable=True, index=True),
    sa.Column("severity", sa.String(16), nullable=False),
    sa.Column("message", sa.String(MAX_MESSAGE_CHARS), nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("published_at", Timestamp, nullable=True),
    sa.Index(
        "ix_events_unpublished",
        "id",
        sqlite_where=sa.text("published_at IS NULL"),
        postgresql_where=sa.text("published_at IS NULL"),
    ),
    sa.Index("ix_events_device_id", "device", "id"),
    sa.Index("ix_events_alerts", "at", sqlite_where=_ALERTING, postgresql_where=_ALERTING),
)
# As the partial index says it, word for word: only then do SQLite and PostgreSQL use it.
IS_ALERTING = sa.text("events.severity IN ('warning', 'critical')")
_INSERT = events_table.insert()
_ORDER_LOCK = 0x6576656E7473  # "events"; any number that is ours alone in the database
# The last lock a transaction takes, so that nobody who holds it waits for another. Whoever stands still while
# holding it is cut off: nobody else could tell an event any more.
_HOLD_ORDER = sa.select(
    sa.func.set_config("idle_in_transaction_session_timeout", "30s", sa.true()),
    sa.func.pg_advisory_xact_lock(_ORDER_LOCK),
)
_UNPUBLISHED = (
    events_table.select()
    .where(events_table.c.published_at.is_(None))
    .order_by(events_table.c.id)
    .limit(sa.bindparam("most"))
)


class Severity(StrEnum):
    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Event:
    """One thing that happened. `kind` is `<noun>.<past participle>`, e.g. `certificate.issued`."""

    id: int
    at: datetime
    kind: str
    device: str | None
    severity: Severity
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    actor: str = "system"

    def as_json(self) -> dict[str, Any]:
        """Return the public form: time, kind, device, severity, message, details, actor, id."""
        return {
            "time": render_time(self.at),
            "kind": self.kind,
            "device": self.device,
            "severity": self.severity.value,
            "message": self.message,
            "details": self.details,
            "actor": self.actor,
            "id": self.id,
        }


def emit(
    tx: Tx,
    kind: str,
    message: str,
    *,
    device: str | None = None,
    severity: Severity = Severity.INFO,
    **details: Any,
) -> None:
    """Record that something happened, in `tx`. `details` must be JSON values and hold no secret.

    Raises:
        RuntimeError: `tx` only reads.
    """
    text = json.dumps(details, separators=(",", ":"), sort_keys=True, default=str)
    if len(text) > MAX_DETAILS_CHARS:
        text = json.dumps({"omitted": "details over the size limit", "chars": len(text)})
    if not tx.outgoing:
        tx.before_commit(lambda: _write_outgoing(tx))
    tx.outgoing.append(
        {
            "at": tx.now,
            "kind": kind,
            "device": device,
            "severity": severity.value,
            "message": message[:MAX_MESSAGE_CHARS],
            "details": text,
            "actor": tx.actor,
        }
    )


def _write_outgoing(tx: Tx) -> None:
    """Give ids to what `tx` has told. From here on it holds up everybody else who has something to tell."""
    if not tx.outgoing:
        return
    if tx.conn.dialect.name == "postgresql":
        tx.conn.execute(_HOLD_ORDER)
    # Values beside the statement, not in it: compiled once, a quarter of the cost.
    tx.conn.execute(_INSERT, tx.outgoing)
    tx.outgoing.clear()


def list_events(
    tx: Tx,
    *,
    device: str | None = None,
    since: datetime | None = None,
    after_id: int = 0,
    limit: int = 1000,
) -> list[Event]:
    """Return up to `limit` events with an id over `after_id`, oldest first; those of `tx` too."""
    _write_outgoing(tx)
    query = events_table.select().where(events_table.c.id > after_id).order_by(events_table.c.id).limit(limit)
    if device is not None:
        query = query.where(events_table.c.device == device)
    if since is not None:
        query = query.where(events_table.c.at >= since)
    return [as_event(row) for row in tx.conn.execute(query)]


def find_last_event_id(tx: Tx) -> int:
    """Return the id of the newest event, 0 when there is none."""
    _write_outgoing(tx)
    return tx.conn.execute(sa.select(sa.func.max(events_table.c.id))).scalar() or 0


def list_unpublished(tx: Tx, *, limit: int = 500) -> list[Event]:
    """Return the oldest events that no publisher has carried to JetStream."""
    return [as_event(row) for row in tx.conn.execute(_UNPUBLISHED, {"most": limit})]


def mark_published(tx: Tx, ids: list[int]) -> None:
    """Record that JetStream has acknowledged these events."""
    tx.conn.execute(events_table.update().where(events_table.c.id.in_(ids)).values(published_at=tx.now))


def as_event(row: sa.Row[Any]) -> Event:
    """Return the event in a row of `events_table`."""
    return Event(
        id=row.id,
        at=row.at,
        kind=row.kind,
        device=row.device,
        severity=Severity(row.severity),
        message=row.message,
        details=json.loads(row.details),
        actor=row.actor,
    )
