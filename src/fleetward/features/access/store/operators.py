"""Operators: people, by name."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.access.store.rows import as_value

operators = sa.Table(
    "access_operators",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("display_name", sa.String(128), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("webauthn_id", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("issuer", sa.String(200), nullable=True),
    sa.Column("subject", sa.String(255), nullable=True),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("last_seen_at", Timestamp, nullable=True),
    sa.UniqueConstraint("issuer", "subject"),
)


class OperatorState(StrEnum):
    INVITED = "invited"
    ACTIVE = "active"
    DISABLED = "disabled"


@dataclass(frozen=True)
class Operator:
    """A person who may sign in once active. `issuer` and `subject` name them at an OpenID provider."""

    name: str
    display_name: str
    state: OperatorState
    webauthn_id: bytes = field(repr=False)
    issuer: str | None
    subject: str | None
    created_by: str
    created_at: datetime
    last_seen_at: datetime | None


def any_exists(tx: Tx) -> bool:
    return tx.conn.execute(sa.select(operators.c.name).limit(1)).first() is not None


def insert(tx: Tx, operator: Operator) -> None:
    tx.conn.execute(operators.insert().values(**operator.__dict__))


def find(tx: Tx, name: str) -> Operator | None:
    return _one(tx, operators.c.name == name)


def find_by_webauthn_id(tx: Tx, webauthn_id: bytes) -> Operator | None:
    return _one(tx, operators.c.webauthn_id == webauthn_id)


def find_by_subject(tx: Tx, issuer: str, subject: str) -> Operator | None:
    return _one(tx, sa.and_(operators.c.issuer == issuer, operators.c.subject == subject))


def list_all(tx: Tx) -> list[Operator]:
    return [_as_operator(row) for row in tx.conn.execute(operators.select().order_by(operators.c.name))]


def update_state(tx: Tx, name: str, before: OperatorState, after: OperatorState) -> bool:
    """Move an operator from one state to another; return whether they were in the first."""
    change = operators.update().where(operators.c.name == name, operators.c.state == before.value)
    return tx.conn.execute(change.values(state=after.value)).rowcount == 1


def mark_seen(tx: Tx, name: str) -> None:
    tx.conn.execute(operators.update().where(operators.c.name == name).values(last_seen_at=tx.now))


def _one(tx: Tx, condition: sa.ColumnElement[bool]) -> Operator | None:
    row = tx.conn.execute(operators.select().where(condition)).one_or_none()
    return None if row is None else _as_operator(row)


def _as_operator(row: sa.Row[Any]) -> Operator:
    return as_value(Operator, row, state=OperatorState(row.state))
