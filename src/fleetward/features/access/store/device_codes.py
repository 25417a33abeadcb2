"""Sign-ins of command lines in progress (RFC 8628)."""

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
)


def insert(tx: Tx, code: DeviceCode, device_code_hash: bytes) -> None:
    values = {**code.__dict__, "state": code.state.value, "device_code_hash": device_code_hash}
    tx.conn.execute(device_codes.insert().values(**values))


def find_by_hash(tx: Tx, device_code_hash: bytes) -> DeviceCode | None:
    """Return a sign-in and hold it until the transaction ends, so that two polls queue up."""
    query = device_codes.select().where(device_codes.c.device_code_hash == device_code_hash)
    row = tx.conn.execute(query.with_for_update()).one_or_none()
    return None if row is None else as_value(DeviceCode, row, state=CodeState(row.state))


def find_pending(tx: Tx, user_code: str) -> DeviceCode | None:
    """Return the sign-in of a user code that waits for an answer."""
    condition = (
        device_codes.c.user_code == user_code,
        device_codes.c.state == CodeState.PENDING.value,
        device_codes.c.expires_at > tx.now,
    )
    row = tx.conn.execute(device_codes.select().where(*condition)).one_or_none()
    return None if row is None else as_value(DeviceCode, row, state=CodeState(row.state))


def count_pending(tx: Tx, address: str | None = None) -> int:
    query = sa.select(sa.func.count()).where(
        device_codes.c.state == CodeState.PENDING.value, device_codes.c.expires_at > tx.now
    )
    if address is not None:
        query = query.where(device_codes.c.address == address)
    return int(tx.conn.execute(query).scalar_one())


def mark_polled(tx: Tx, code_id: str, interval_s: int) -> None:
    change = device_codes.update().where(device_codes.c.id == code_id)
    tx.conn.execute(change.values(polled_at=tx.now, interval_s=interval_s))


def update_state(
    tx: Tx, code_id: str, before: CodeState, after: CodeState, *, operator: str | None = None
) -> bool:
    """Move a sign-in on; return whether it was in `before`."""
    change = device_codes.update().where(device_codes.c.id == code_id, device_codes.c.state == before.value)
    values = {"state": after.value} | ({} if operator is None else {"operator": operator})
    return tx.conn.execute(change.values(values)).rowcount == 1


def forget_expired(tx: Tx) -> None:
    tx.conn.execute(device_codes.delete().where(device_codes.c.expires_at < tx.now))
