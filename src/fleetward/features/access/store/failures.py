"""Failed sign-ins, counted per account and per address."""

from datetime import datetime

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, insert_new, metadata
from fleetward.base.limiting.backoff import Failures

table = sa.Table(
    "access_throttle",
    metadata,
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_failed_at", Timestamp, nullable=False),
    sa.Column("blocked_until", Timestamp, nullable=False),
)


def lock(tx: Tx, key: str) -> Failures:
    """Return what is remembered of a key and hold it until the transaction ends: guesses at once queue up."""
    insert_new(tx, table, {"key": key, "failures": 0, "last_failed_at": tx.now, "blocked_until": tx.now})
    row = tx.conn.execute(table.select().where(table.c.key == key).with_for_update()).one()
    return Failures(row.failures, row.last_failed_at, row.blocked_until)


def find(tx: Tx, key: str) -> Failures | None:
    row = tx.conn.execute(table.select().where(table.c.key == key)).one_or_none()
    return None if row is None else Failures(row.failures, row.last_failed_at, row.blocked_until)


def update(tx: Tx, key: str, failures: Failures) -> None:
    values = {
        "failures": failures.count,
        "last_failed_at": failures.last_failed_at,
        "blocked_until": failures.blocked_until,
    }
    tx.conn.execute(table.update().where(table.c.key == key).values(values))


def forget(tx: Tx, key: str) -> None:
    tx.conn.execute(table.delete().where(table.c.key == key))


def forget_older(tx: Tx, than: datetime) -> None:
    tx.conn.execute(table.delete().where(table.c.last_failed_at < than))
