"""The SQL of certificates and CRLs."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.pki.model import CertificateRecord, RevocationReason

certificates = sa.Table(
    "certificates",
    metadata,
    sa.Column("serial", sa.String(40), primary_key=True),
    sa.Column("issuer", sa.String(64), nullable=False),
    sa.Column("device", sa.String(64), nullable=False),
    sa.Column("not_before", Timestamp, nullable=False),
    sa.Column("not_after", Timestamp, nullable=False),
    sa.Column("issued_at", Timestamp, nullable=False),
    sa.Column("revoked_at", Timestamp, nullable=True),
    sa.Column("revocation_reason", sa.String(32), nullable=True),
    sa.Column("der", sa.LargeBinary, nullable=False),
    sa.Index("ix_certificates_device", "device", "issued_at"),
    sa.Index("ix_certificates_revoked", "issuer", "revoked_at"),
)
crls = sa.Table(
    "crls",
    metadata,
    sa.Column("issuer", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("this_update", Timestamp, nullable=False),
    sa.Column("next_update", Timestamp, nullable=False),
    sa.Column("der", sa.LargeBinary, nullable=False),
)

_RECORD = (
    certificates.c.serial, certificates.c.device, certificates.c.not_before, certificates.c.not_after,
    certificates.c.issued_at, certificates.c.revoked_at, certificates.c.revocation_reason,
)  # fmt: skip


def insert_certificate(tx: Tx, record: CertificateRecord, *, issuer: str, der: bytes) -> None:
    tx.conn.execute(
        certificates.insert().values(
            serial=f"{record.serial:x}",
            issuer=issuer,
            device=record.device_id,
            not_before=record.not_before,
            not_after=record.not_after,
            issued_at=record.issued_at,
            revoked_at=None,
            revocation_reason=None,
            der=der,
        )
    )


def find_certificate(tx: Tx, serial: int) -> CertificateRecord | None:
    query = sa.select(*_RECORD).where(certificates.c.serial == f"{serial:x}")
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else _as_record(row)


def list_certificates(tx: Tx, device_id: str, *, limit: int) -> list[CertificateRecord]:
    query = (
        sa.select(*_RECORD)
        .where(certificates.c.device == device_id)
        .order_by(certificates.c.issued_at.desc(), certificates.c.serial)
        .limit(limit)
    )
    return [_as_record(row) for row in tx.conn.execute(query)]


def list_live_serials(tx: Tx, device_id: str, now: datetime) -> list[int]:
    query = sa.select(certificates.c.serial).where(
        certificates.c.device == device_id,
        certificates.c.revoked_at.is_(None),
        certificates.c.not_after >= now,
    )
    return [int(serial, 16) for serial in tx.conn.execute(query).scalars()]


def revoke(tx: Tx, serials: Iterable[int], reason: RevocationReason) -> int:
    """Mark those of `serials` that are not revoked yet; return how many were."""
    result = tx.conn.execute(
        certificates.update()
        .where(
            certificates.c.serial.in_([f"{serial:x}" for serial in serials]),
            certificates.c.revoked_at.is_(None),
        )
        .values(revoked_at=tx.now, revocation_reason=reason.value)
    )
    return result.rowcount


def list_revoked(
    tx: Tx, *, issuer: str | None, device_id: str | None, now: datetime
) -> list[CertificateRecord]:
    """Return revoked certificates that have not expired."""
    query = sa.select(*_RECORD).where(certificates.c.revoked_at.is_not(None), certificates.c.not_after >= now)
    if issuer is not None:
        query = query.where(certificates.c.issuer == issuer)
    if device_id is not None:
        query = query.where(certificates.c.device == device_id)
    return [_as_record(row) for row in tx.conn.execute(query)]


def last_revocation_at(tx: Tx, issuer: str) -> datetime | None:
    latest = sa.func.max(certificates.c.revoked_at, type_=Timestamp)
    return tx.conn.execute(sa.select(latest).where(certificates.c.issuer == issuer)).scalar_one_or_none()


def find_crl(tx: Tx, issuer: str) -> sa.Row[Any] | None:
    return tx.conn.execute(crls.select().where(crls.c.issuer == issuer)).one_or_none()


def put_crl(tx: Tx, issuer: str, *, number: int, next_update: datetime, der: bytes) -> None:
    values = {"number": number, "this_update": tx.now, "next_update": next_update, "der": der}
    if tx.conn.execute(crls.update().where(crls.c.issuer == issuer).values(**values)).rowcount == 0:
        tx.conn.execute(crls.insert().values(issuer=issuer, **values))


def delete_expired(tx: Tx, before: datetime) -> int:
    return tx.conn.execute(certificates.delete().where(certificates.c.not_after < before)).rowcount


def _as_record(row: sa.Row[*tuple[Any, ...]]) -> CertificateRecord:
    return CertificateRecord(
        serial=int(row.serial, 16),
        device_id=row.device,
        not_before=row.not_before,
        not_after=row.not_after,
        issued_at=row.issued_at,
        revoked_at=row.revoked_at,
        revocation_reason=None if row.revocation_reason is None else RevocationReason(row.revocation_reason),
    )
