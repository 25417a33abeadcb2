"""Sessions of browsers: the cookie's secret is kept as a hash."""

from datetime import datetime

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.access.model.sessions import Session
from fleetward.features.access.store.rows import as_value

sessions = sa.Table(
    "access_sessions",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("secret_hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("operator", sa.String(64), sa.ForeignKey("access_operators.name"), nullable=False, index=True),
    sa.Column("method", sa.String(16), nullable=False),
    sa.Column("restricted", sa.Boolean, nullable=False),
    sa.Column("mfa_at", Timestamp, nullable=True),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("user_agent", sa.String(200), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("last_seen_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("ended_at", Timestamp, nullable=True),
)


def insert(tx: Tx, session: Session, secret_hash: bytes) -> None:
    tx.conn.execute(sessions.insert().values(**session.__dict__, secret_hash=secret_hash))


def find_by_hash(tx: Tx, secret_hash: bytes) -> Session | None:
    row = tx.conn.execute(sessions.select().where(sessions.c.secret_hash == secret_hash)).one_or_none()
    return None if row is None else as_value(Session, row)


def find(tx: Tx, session_id: str) -> Session | None:
    row = tx.conn.execute(sessions.select().where(sessions.c.id == session_id)).one_or_none()
    return None if row is None else as_value(Session, row)


def list_open(tx: Tx, operator: str) -> list[Session]:
    """Return the operator's sessions that were neither ended nor reached their limit, newest first."""
    is_open = (sessions.c.operator == operator, sessions.c.ended_at.is_(None), sessions.c.expires_at > tx.now)
    query = sessions.select().where(*is_open).order_by(sessions.c.created_at.desc(), sessions.c.id)
    return [as_value(Session, row) for row in tx.conn.execute(query)]


def mark_seen(tx: Tx, session_id: str) -> None:
    tx.conn.execute(sessions.update().where(sessions.c.id == session_id).values(last_seen_at=tx.now))


def step_up(tx: Tx, session_id: str, secret_hash: bytes, mfa_at: datetime) -> bool:
    """Give a session another secret and all its operator's rights; return whether it was still open."""
    change = sessions.update().where(sessions.c.id == session_id, sessions.c.ended_at.is_(None))
    values = {"secret_hash": secret_hash, "mfa_at": mfa_at, "restricted": False, "last_seen_at": mfa_at}
    return tx.conn.execute(change.values(values)).rowcount == 1


def end(tx: Tx, session_id: str) -> bool:
    """End a session; return whether it was open."""
    change = sessions.update().where(sessions.c.id == session_id, sessions.c.ended_at.is_(None))
    return tx.conn.execute(change.values(ended_at=tx.now)).rowcount == 1


def end_all(tx: Tx, operator: str, *, but: str | None = None) -> int:
    """End every session of an operator, but one; return how many were open."""
    change = sessions.update().where(sessions.c.operator == operator, sessions.c.ended_at.is_(None))
    if but is not None:
        change = change.where(sessions.c.id != but)
    return tx.conn.execute(change.values(ended_at=tx.now)).rowcount


def forget_older(tx: Tx, than: datetime) -> None:
    tx.conn.execute(sessions.delete().where(sessions.c.expires_at < than))
