"""Grants: which role an operator holds in which group."""

from typing import Any

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.access.model.identity import Grant
from fleetward.features.access.model.roles import Role
from fleetward.features.access.store.rows import as_value

grants = sa.Table(
    "access_grants",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("operator", sa.String(64), sa.ForeignKey("access_operators.name"), nullable=False),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("group", sa.String(64), nullable=False),
    sa.Column("given_by", sa.String(128), nullable=False),
    sa.Column("given_at", Timestamp, nullable=False),
    sa.Column("last_used_at", Timestamp, nullable=True),
    sa.UniqueConstraint("operator", "role", "group"),
)


def insert(tx: Tx, grant: Grant) -> None:
    tx.conn.execute(grants.insert().values(**{**grant.__dict__, "role": grant.role.value}))


def delete(tx: Tx, grant_id: str) -> bool:
    """Remove a grant; return whether it was there."""
    return tx.conn.execute(grants.delete().where(grants.c.id == grant_id)).rowcount == 1


def find(tx: Tx, grant_id: str) -> Grant | None:
    row = tx.conn.execute(grants.select().where(grants.c.id == grant_id)).one_or_none()
    return None if row is None else _as_grant(row)


def list_grants(tx: Tx, operator: str | None = None) -> list[Grant]:
    query = grants.select().order_by(grants.c.operator, grants.c.role, grants.c.group)
    if operator is not None:
        query = query.where(grants.c.operator == operator)
    return [_as_grant(row) for row in tx.conn.execute(query)]


def _as_grant(row: sa.Row[Any]) -> Grant:
    return as_value(Grant, row, role=Role(row.role))
