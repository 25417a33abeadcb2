"""WebAuthn challenges that were answered: none is answered twice."""

from datetime import datetime

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, insert_new, metadata

spent = sa.Table(
    "access_spent_challenges",
    metadata,
    sa.Column("challenge_hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("expires_at", Timestamp, nullable=False),
)


def spend(tx: Tx, challenge_hash: bytes, expires_at: datetime) -> bool:
    """Record an answered challenge; return whether it was the first answer."""
    values = {"challenge_hash": challenge_hash, "expires_at": expires_at}
    return insert_new(tx, spent, values)


def forget_expired(tx: Tx) -> None:
    tx.conn.execute(spent.delete().where(spent.c.expires_at < tx.now))
