"""Tokens of programs (`fwt_`) and of signed-in command lines (`fwc_`), kept as hashes."""

import json
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.access.model.tokens import Token
from fleetward.features.access.store.rows import as_value

tokens = sa.Table(
    "access_tokens",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("secret_hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("operator", sa.String(64), sa.ForeignKey("access_operators.name"), nullable=False, index=True),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("scopes", sa.Text, nullable=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("last_used_at", Timestamp, nullable=True),
    sa.Column("revoked_at", Timestamp, nullable=True),
    sa.Column("mfa_at", Timestamp, nullable=True),
)


def insert(tx: Tx, token: Token, secret_hash: bytes) -> None:
    scopes = None if token.scopes is None else json.dumps(sorted(token.scopes))
    values = {**token.__dict__, "scopes": scopes, "secret_hash": secret_hash}
    tx.conn.execute(tokens.insert().values(**values))


def find_by_hash(tx: Tx, secret_hash: bytes) -> Token | None:
    row = tx.conn.execute(tokens.select().where(tokens.c.secret_hash == secret_hash)).one_or_none()
    return None if row is None else _as_token(row)


def find(tx: Tx, token_id: str) -> Token | None:
    row = tx.conn.execute(tokens.select().where(tokens.c.id == token_id)).one_or_none()
    return None if row is None else _as_token(row)


def list_live(tx: Tx, operator: str) -> list[Token]:
    """Return the operator's tokens that still work, newest first."""
    live = (tokens.c.operator == operator, tokens.c.revoked_at.is_(None), tokens.c.expires_at > tx.now)
    query = tokens.select().where(*live).order_by(tokens.c.created_at.desc(), tokens.c.id)
    return [_as_token(row) for row in tx.conn.execute(query)]


def mark_used(tx: Tx, token_id: str) -> None:
    tx.conn.execute(tokens.update().where(tokens.c.id == token_id).values(last_used_at=tx.now))


def revoke(tx: Tx, token_id: str) -> bool:
    """Revoke a token; return whether it was not revoked yet."""
    change = tokens.update().where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
    return tx.conn.execute(change.values(revoked_at=tx.now)).rowcount == 1


def revoke_all(tx: Tx, operator: str) -> int:
    """Revoke every token of an operator; return how many were not revoked yet."""
    change = tokens.update().where(tokens.c.operator == operator, tokens.c.revoked_at.is_(None))
    return tx.conn.execute(change.values(revoked_at=tx.now)).rowcount


def _as_token(row: sa.Row[Any]) -> Token:
    return as_value(Token, row, scopes=None if row.scopes is None else frozenset(json.loads(row.scopes)))
