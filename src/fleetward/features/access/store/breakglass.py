"""The SQL of break-glass."""

from typing import Any

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.access.model.breakglass import LASTS, Glass

glasses = sa.Table(
    "access_break_glass",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("requester", sa.String(64), sa.ForeignKey("access_operators.name"), nullable=False, index=True),
    sa.Column("reason", sa.String(500), nullable=False),
    sa.Column("requested_at", Timestamp, nullable=False),
    sa.Column("approver", sa.String(64), nullable=True),
    sa.Column("approved_at", Timestamp, nullable=True),
    sa.Column("first_entry", sa.BigInteger, nullable=True),
    sa.Column("ended_at", Timestamp, nullable=True),
    sa.Column("ended_by", sa.String(64), nullable=True),
    sa.Column("reviewer", sa.String(64), nullable=True),
    sa.Column("reviewed_at", Timestamp, nullable=True),
    sa.Column("findings", sa.Text, nullable=False),
)


def insert(tx: Tx, glass: Glass) -> None:
    tx.conn.execute(glasses.insert().values(**glass.__dict__))


def find(tx: Tx, glass_id: str) -> Glass | None:
    row = tx.conn.execute(glasses.select().where(glasses.c.id == glass_id)).one_or_none()
    return None if row is None else _as_glass(row)


def find_unreviewed(tx: Tx, requester: str) -> Glass | None:
    """Return the approved emergency of an operator that nobody has reviewed; there is at most one."""
    query = (
        glasses.select()
        .where(glasses.c.requester == requester)
        .where(glasses.c.approved_at.is_not(None), glasses.c.reviewed_at.is_(None))
    )
    row = tx.conn.execute(query).first()
    return None if row is None else _as_glass(row)


def list_open_requests(tx: Tx, requester: str) -> list[Glass]:
    """Return what an operator asked for and nobody has approved or ended."""
    query = (
        glasses.select()
        .where(glasses.c.requester == requester)
        .where(glasses.c.approved_at.is_(None), glasses.c.ended_at.is_(None))
    )
    return [_as_glass(row) for row in tx.conn.execute(query)]


def list_all(tx: Tx, *, limit: int) -> list[Glass]:
    """Return the last emergencies, newest first."""
    query = glasses.select().order_by(glasses.c.requested_at.desc(), glasses.c.id).limit(limit)
    return [_as_glass(row) for row in tx.conn.execute(query)]


def list_expired(tx: Tx) -> list[Glass]:
    """Return those whose time is over and whose end nobody has recorded."""
    query = glasses.select().where(glasses.c.ended_at.is_(None), glasses.c.approved_at <= tx.now - LASTS)
    return [_as_glass(row) for row in tx.conn.execute(query)]


def update(tx: Tx, glass: Glass, *, unless_set: str, **values: Any) -> bool:
    """Change one whose column `unless_set` is still empty; return whether it was."""
    change = glasses.update().where(glasses.c.id == glass.id, glasses.c[unless_set].is_(None))
    return tx.conn.execute(change.values(**values)).rowcount == 1


def _as_glass(row: sa.Row[Any]) -> Glass:
    return Glass(**dict(row._mapping))  # noqa: SLF001 - SQLAlchemy's public name for it
