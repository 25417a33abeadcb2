"""Sign-ins of command lines in progress (RFC 8628)."""

import json
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.access.model.device_codes import CodeState, DeviceCode
from fleetward.features.access.store.rows import as_value

device_codes = sa.Table(
    "access_device_codes",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("device_code_hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("user_code", sa.String(16), nullable=False, unique=True),
    sa.Column("client", sa.String(100), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("operator", sa.String(64), nullable=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("interval_s", sa.Integer, nullable=False),
    sa.Column("polled_at", Timestamp, nullable=True),
    sa.Column("network", sa.String(64), nullable=True),
    sa.Column("scopes", sa.Text, nullable=True),
    sa.Column("token_name", sa.String(64), nullable=True),
    sa.Column("token_lifetime_s", sa.BigInteger, nullable=True),
    sa.Column("answered_at", Timestamp, nullable=True),
)


def insert(tx: Tx, code: DeviceCode, device_code_hash: bytes) -> None:
    scopes = None if code.scopes is None else json.dumps(sorted(code.scopes))
    values = {
        **code.__dict__, "state": code.state.value, "scopes": scopes, "device_code_hash": device_code_hash,
    }  # fmt: skip
    tx.conn.execute(device_codes.insert().values(**values))


def find_by_hash(tx: Tx, device_code_hash: bytes) -> DeviceCode | None:
    """Return a sign-in and hold it until the transaction ends, so that two polls queue up."""
    query = device_codes.select().where(device_codes.c.device_code_hash == device_code_hash)
    row = tx.conn.execute(query.with_for_update()).one_or_none()
    return None if row is None else _as_code(row)


def find_pending(tx: Tx, user_code: str) -> DeviceCode | None:
    """Return the sign-in of a user code that waits for an answer."""
    query = device_codes.select().where(device_codes.c.user_code == user_code, *_pending(tx))
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else _as_code(row)


def count_pending(tx: Tx, network: str | None = None) -> int:
    """Return how many wait for an answer, of one network or of all."""
    query = sa.select(sa.func.count()).where(*_pending(tx))
    if network is not None:
        query = query.where(device_codes.c.network == network)
    return int(tx.conn.execute(query).scalar_one())


def forget_of_the_greediest(tx: Tx) -> None:
    """Delete the oldest that waits of the network that has most of them."""
    count = sa.func.count()
    most = (
        sa.select(device_codes.c.network)
        .where(*_pending(tx))
        .group_by(device_codes.c.network)
        .order_by(count.desc(), sa.func.min(device_codes.c.created_at))
        .limit(1)
    )
    network = tx.conn.execute(most).scalar_one_or_none()
    oldest = (
        sa.select(device_codes.c.id)
        .where(*_pending(tx), device_codes.c.network.is_not_distinct_from(network))
        .order_by(device_codes.c.created_at, device_codes.c.id)
        .limit(1)
    )
    tx.conn.execute(device_codes.delete().where(device_codes.c.id.in_(oldest)))


def mark_polled(tx: Tx, code_id: str, interval_s: int) -> None:
    change = device_codes.update().where(device_codes.c.id == code_id)
    tx.conn.execute(change.values(polled_at=tx.now, interval_s=interval_s))


def update_state(
    tx: Tx, code_id: str, before: CodeState, after: CodeState, *, operator: str | None = None
) -> bool:
    """Move a sign-in on; return whether it was in `before`."""
    change = device_codes.update().where(device_codes.c.id == code_id, device_codes.c.state == before.value)
    values: dict[str, Any] = {"state": after.value}
    if operator is not None:
        values |= {"operator": operator, "answered_at": tx.now}
    return tx.conn.execute(change.values(values)).rowcount == 1


def forget_expired(tx: Tx) -> None:
    tx.conn.execute(device_codes.delete().where(device_codes.c.expires_at < tx.now))


def _pending(tx: Tx) -> tuple[sa.ColumnElement[bool], ...]:
    return (device_codes.c.state == CodeState.PENDING.value, device_codes.c.expires_at > tx.now)


def _as_code(row: sa.Row[Any]) -> DeviceCode:
    scopes = None if row.scopes is None else frozenset(json.loads(row.scopes))
    return as_value(DeviceCode, row, state=CodeState(row.state), scopes=scopes)
