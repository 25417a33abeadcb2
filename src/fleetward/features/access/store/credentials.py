"""What operators prove themselves with: passkeys, passwords, sealed TOTP secrets, hashed recovery codes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, insert_new, metadata
from fleetward.features.access.store.rows import as_value

_OPERATOR = "access_operators.name"

passkeys = sa.Table(
    "access_passkeys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("operator", sa.String(64), sa.ForeignKey(_OPERATOR), nullable=False, index=True),
    sa.Column("credential_id", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("label", sa.String(64), nullable=False),
    sa.Column("aaguid", sa.String(36), nullable=False),
    sa.Column("backed_up", sa.Boolean, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("last_used_at", Timestamp, nullable=True),
)
passwords = sa.Table(
    "access_passwords",
    metadata,
    sa.Column("operator", sa.String(64), sa.ForeignKey(_OPERATOR), primary_key=True),
    sa.Column("hash", sa.String(256), nullable=False),
    sa.Column("changed_at", Timestamp, nullable=False),
)
totp = sa.Table(
    "access_totp",
    metadata,
    sa.Column("operator", sa.String(64), sa.ForeignKey(_OPERATOR), primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
)
recovery_codes = sa.Table(
    "access_recovery_codes",
    metadata,
    sa.Column("code_hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("operator", sa.String(64), sa.ForeignKey(_OPERATOR), nullable=False, index=True),
    sa.Column("used_at", Timestamp, nullable=True),
)


@dataclass(frozen=True)
class Passkey:
    """A WebAuthn credential. `backed_up`: the provider syncs it between the person's devices."""

    id: str
    operator: str
    credential_id: bytes
    public_key: bytes = field(repr=False)
    sign_count: int
    label: str
    aaguid: str
    backed_up: bool
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class Factors:
    """How many proofs an operator has."""

    passkeys: int
    password: bool
    totp: bool
    recovery_codes_left: int


def insert_passkey(tx: Tx, passkey: Passkey) -> None:
    tx.conn.execute(passkeys.insert().values(**passkey.__dict__))


def find_passkey(tx: Tx, credential_id: bytes) -> Passkey | None:
    row = tx.conn.execute(passkeys.select().where(passkeys.c.credential_id == credential_id)).one_or_none()
    return None if row is None else as_value(Passkey, row)


def list_passkeys(tx: Tx, operator: str) -> list[Passkey]:
    query = passkeys.select().where(passkeys.c.operator == operator)
    return [as_value(Passkey, row) for row in tx.conn.execute(query.order_by(passkeys.c.created_at))]


def mark_passkey_used(tx: Tx, passkey_id: str, before: int, after: int) -> bool:
    """Move the signature counter; return whether it stood at `before`."""
    change = passkeys.update().where(passkeys.c.id == passkey_id, passkeys.c.sign_count == before)
    return tx.conn.execute(change.values(sign_count=after, last_used_at=tx.now)).rowcount == 1


def delete_passkey(tx: Tx, operator: str, passkey_id: str) -> bool:
    change = passkeys.delete().where(passkeys.c.operator == operator, passkeys.c.id == passkey_id)
    return tx.conn.execute(change).rowcount == 1


def find_password(tx: Tx, operator: str) -> str | None:
    """Return the encoded argon2id hash, or None."""
    query = sa.select(passwords.c.hash).where(passwords.c.operator == operator)
    found: str | None = tx.conn.execute(query).scalar_one_or_none()
    return found


def put_password(tx: Tx, operator: str, encoded: str) -> None:
    values = {"hash": encoded, "changed_at": tx.now}
    if not insert_new(tx, passwords, {"operator": operator, **values}):
        tx.conn.execute(passwords.update().where(passwords.c.operator == operator).values(values))


def find_totp(tx: Tx, operator: str) -> tuple[bytes, int] | None:
    """Return the sealed secret and the last time step it was used in, or None."""
    row = tx.conn.execute(totp.select().where(totp.c.operator == operator)).one_or_none()
    return None if row is None else (row.sealed, row.last_step)


def put_totp(tx: Tx, operator: str, sealed: bytes, last_step: int) -> None:
    values = {"sealed": sealed, "last_step": last_step, "created_at": tx.now}
    if not insert_new(tx, totp, {"operator": operator, **values}):
        tx.conn.execute(totp.update().where(totp.c.operator == operator).values(values))


def use_totp_step(tx: Tx, operator: str, step: int, *, after: int) -> bool:
    """Note that a step was used; False when another sign-in has used one since `after` was read."""
    change = totp.update().where(totp.c.operator == operator, totp.c.last_step == after)
    return tx.conn.execute(change.values(last_step=step)).rowcount == 1


def replace_recovery_codes(tx: Tx, operator: str, hashes: Iterable[bytes]) -> None:
    tx.conn.execute(recovery_codes.delete().where(recovery_codes.c.operator == operator))
    rows = [{"operator": operator, "code_hash": one, "used_at": None} for one in hashes]
    tx.conn.execute(recovery_codes.insert(), rows)


def use_recovery_code(tx: Tx, operator: str, code_hash: bytes) -> bool:
    """Use up a code; return whether it was one of the operator's unused ones."""
    change = recovery_codes.update().where(
        recovery_codes.c.operator == operator,
        recovery_codes.c.code_hash == code_hash,
        recovery_codes.c.used_at.is_(None),
    )
    return tx.conn.execute(change.values(used_at=tx.now)).rowcount == 1


def count_factors(tx: Tx, operator: str) -> Factors:
    def count(table: sa.Table, *more: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(table).where(table.c.operator == operator, *more)
        return int(tx.conn.execute(query).scalar_one())

    return Factors(
        passkeys=count(passkeys),
        password=count(passwords) > 0,
        totp=count(totp) > 0,
        recovery_codes_left=count(recovery_codes, recovery_codes.c.used_at.is_(None)),
    )


def delete_all(tx: Tx, operator: str) -> None:
    """Forget every proof of an operator."""
    for table in (passkeys, passwords, totp, recovery_codes):
        tx.conn.execute(table.delete().where(table.c.operator == operator))
