"""The SQL of enrollment: claims, answers given, factories, shipments and the TPM lane's open attempts."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata, upsert
from fleetward.features.enrollment.model import Attempt, ClaimRecord, Factory
from fleetward.wire.enroll import Purpose

claims = sa.Table(
    "enrollment_claims",
    metadata,
    sa.Column("token_hash", sa.String(64), primary_key=True),
    sa.Column("device_id", sa.String(64), sa.ForeignKey("devices.id"), nullable=False, index=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("used_at", Timestamp, nullable=True),
    sa.Column("used_by", sa.String(64), nullable=True),
    sa.Column("withdrawn_at", Timestamp, nullable=True),
)
# What was answered for a key, so that a device that lost the answer gets the same one.
answers = sa.Table(
    "enrollment_answers",
    metadata,
    sa.Column("device_id", sa.String(64), sa.ForeignKey("devices.id"), primary_key=True),
    sa.Column("key_fingerprint", sa.String(64), primary_key=True),
    sa.Column("certificate", sa.LargeBinary, nullable=False),
    sa.Column("not_after", Timestamp, nullable=False),
)
factories = sa.Table(
    "enrollment_factories",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("idevid_authorities", sa.Text, nullable=False),
    sa.Column("trusted_at", Timestamp, nullable=False),
)
shipments = sa.Table(
    "enrollment_shipments",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("factory", sa.String(64), nullable=False),
    sa.Column("batch", sa.String(64), nullable=False),
    sa.Column("devices", sa.Integer, nullable=False),
    sa.Column("imported_at", Timestamp, nullable=False),
)
attempts = sa.Table(
    "enrollment_attempts",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("device_id", sa.String(64), sa.ForeignKey("devices.id"), nullable=False, index=True),
    sa.Column("purpose", sa.String(16), nullable=False),
    sa.Column("ek_fingerprint", sa.String(64), nullable=False),
    sa.Column("claim_hash", sa.String(64), nullable=True),
    sa.Column("expires_at", Timestamp, nullable=False, index=True),
)


def insert_claim(tx: Tx, record: ClaimRecord) -> None:
    tx.conn.execute(
        claims.insert().values(
            token_hash=record.token_hash,
            device_id=record.device_id,
            created_at=record.created_at,
            expires_at=record.expires_at,
        )
    )


def find_claim(tx: Tx, token_hash: str) -> ClaimRecord | None:
    row = tx.conn.execute(claims.select().where(claims.c.token_hash == token_hash)).one_or_none()
    return None if row is None else ClaimRecord(*row)


def get_claim(tx: Tx, token_hash: str) -> ClaimRecord:
    return ClaimRecord(*tx.conn.execute(claims.select().where(claims.c.token_hash == token_hash)).one())


def withdraw_claims(tx: Tx, device_id: str) -> int:
    """Withdraw every unused claim of a device; return how many there were."""
    result = tx.conn.execute(
        claims.update()
        .where(claims.c.device_id == device_id, claims.c.used_at.is_(None), claims.c.withdrawn_at.is_(None))
        .values(withdrawn_at=tx.now)
    )
    return result.rowcount


def use_claim(tx: Tx, token_hash: str, key_fingerprint: str) -> bool:
    """Mark a claim used when it is not yet; return whether it was this call that did."""
    result = tx.conn.execute(
        claims.update()
        .where(claims.c.token_hash == token_hash, claims.c.used_at.is_(None))
        .values(used_at=tx.now, used_by=key_fingerprint)
    )
    return result.rowcount == 1


def delete_expired(tx: Tx, before: datetime) -> int:
    """Delete claims that ended before a time, and answers and attempts that have run out."""
    gone = tx.conn.execute(claims.delete().where(claims.c.expires_at <= before)).rowcount
    gone += tx.conn.execute(answers.delete().where(answers.c.not_after <= tx.now)).rowcount
    return gone + tx.conn.execute(attempts.delete().where(attempts.c.expires_at <= tx.now)).rowcount


def put_answer(tx: Tx, device_id: str, key_fingerprint: str, certificate: bytes, not_after: datetime) -> None:
    """Remember the certificate given for a key in place of an earlier one; expired ones go."""
    tx.conn.execute(answers.delete().where(answers.c.device_id == device_id, answers.c.not_after <= tx.now))
    key = {"device_id": device_id, "key_fingerprint": key_fingerprint}
    upsert(tx, answers, key, {"certificate": certificate, "not_after": not_after})


def find_answer(tx: Tx, device_id: str, key_fingerprint: str) -> bytes | None:
    """Return the certificate given for a key, DER, while it lives."""
    query = sa.select(answers.c.certificate).where(
        answers.c.device_id == device_id,
        answers.c.key_fingerprint == key_fingerprint,
        answers.c.not_after > tx.now,
    )
    return tx.conn.execute(query).scalar_one_or_none()


def insert_factory(tx: Tx, factory: Factory) -> None:
    tx.conn.execute(
        factories.insert().values(
            name=factory.name,
            public_key=factory.public_key,
            idevid_authorities=factory.idevid_authorities,
            trusted_at=tx.now,
        )
    )


def find_factory(tx: Tx, name: str) -> Factory | None:
    row = tx.conn.execute(factories.select().where(factories.c.name == name)).one_or_none()
    return None if row is None else _as_factory(row)


def list_factories(tx: Tx) -> list[Factory]:
    return [_as_factory(row) for row in tx.conn.execute(factories.select().order_by(factories.c.name))]


def insert_shipment(tx: Tx, digest: str, factory: str, batch: str, devices: int) -> None:
    tx.conn.execute(
        shipments.insert().values(
            digest=digest, factory=factory, batch=batch, devices=devices, imported_at=tx.now
        )
    )


def has_shipment(tx: Tx, digest: str) -> bool:
    query = sa.select(shipments.c.digest).where(shipments.c.digest == digest)
    return tx.conn.execute(query).one_or_none() is not None


def insert_attempt(tx: Tx, attempt: Attempt) -> None:
    """Remember an open attempt; those that ran out go."""
    tx.conn.execute(attempts.delete().where(attempts.c.expires_at <= tx.now))
    tx.conn.execute(
        attempts.insert().values(
            id=attempt.id,
            device_id=attempt.device_id,
            purpose=attempt.purpose.value,
            ek_fingerprint=attempt.ek_fingerprint,
            claim_hash=attempt.claim_hash,
            expires_at=attempt.expires_at,
        )
    )


def find_attempt(tx: Tx, attempt_id: str) -> Attempt | None:
    row = tx.conn.execute(attempts.select().where(attempts.c.id == attempt_id)).one_or_none()
    if row is None:
        return None
    return Attempt(
        row.id, row.device_id, Purpose(row.purpose), row.ek_fingerprint, row.claim_hash, row.expires_at
    )


def delete_attempt(tx: Tx, attempt_id: str) -> bool:
    """Close an attempt; return whether it was open, so that only one request can finish it."""
    return tx.conn.execute(attempts.delete().where(attempts.c.id == attempt_id)).rowcount == 1


def _as_factory(row: sa.Row[Any]) -> Factory:
    return Factory(row.name, row.public_key, row.idevid_authorities)
