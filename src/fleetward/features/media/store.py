"""Media's SQL: views and their tickets."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.media.model import View

views = sa.Table(
    "media_views",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("device", sa.String(64), nullable=False, index=True),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("ticket_hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("ticket_expires_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("redeemed_at", Timestamp, nullable=True),
    sa.Column("closed_at", Timestamp, nullable=True),
)


def insert_view(tx: Tx, view: View, ticket_hash: bytes) -> None:
    tx.conn.execute(
        views.insert().values(
            id=view.id,
            device=view.device_id,
            actor=view.actor,
            ticket_hash=ticket_hash,
            created_at=view.created_at,
            ticket_expires_at=view.ticket_expires_at,
            expires_at=view.expires_at,
        )
    )


def find_by_ticket(tx: Tx, ticket_hash: bytes) -> View | None:
    row = tx.conn.execute(views.select().where(views.c.ticket_hash == ticket_hash)).one_or_none()
    return None if row is None else _as_view(row)


def find_view(tx: Tx, view_id: str) -> View | None:
    row = tx.conn.execute(views.select().where(views.c.id == view_id)).one_or_none()
    return None if row is None else _as_view(row)


def redeem(tx: Tx, view_id: str) -> bool:
    """Mark a ticket used; False when someone else was first."""
    changed = tx.conn.execute(
        views.update().where(views.c.id == view_id, views.c.redeemed_at.is_(None)).values(redeemed_at=tx.now)
    )
    return changed.rowcount == 1


def close(tx: Tx, view_id: str) -> bool:
    """Mark a view closed; False when it was already."""
    changed = tx.conn.execute(
        views.update().where(views.c.id == view_id, views.c.closed_at.is_(None)).values(closed_at=tx.now)
    )
    return changed.rowcount == 1


def delete_older(tx: Tx, before: datetime) -> int:
    return tx.conn.execute(views.delete().where(views.c.expires_at < before)).rowcount


def _as_view(row: sa.Row[Any]) -> View:
    return View(
        id=row.id,
        device_id=row.device,
        actor=row.actor,
        created_at=row.created_at,
        ticket_expires_at=row.ticket_expires_at,
        expires_at=row.expires_at,
        redeemed_at=row.redeemed_at,
        closed_at=row.closed_at,
    )
