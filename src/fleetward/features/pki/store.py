"""The SQL of certificates and CRLs."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import IdQuery, Timestamp, Tx, is_among, metadata
from fleetward.features.pki.model import (
    MAX_NOTE_CHARS,
    CertificateRecord,
    EndingCertificate,
    RevocationReason,
    Superseded,
)

_REVOKED = sa.text("revoked_at IS NOT NULL")
_UNLISTED = sa.text("revoked_at IS NOT NULL AND crl_number IS NULL")

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
    sa.Column("revocation_note", sa.String(MAX_NOTE_CHARS), nullable=True),
    # The first CRL that lists it. A time would not do: a revocation can commit after a CRL of a later time.
    sa.Column("crl_number", sa.BigInteger, nullable=True),
    sa.Column("der", sa.LargeBinary, nullable=False),
    sa.Index("ix_certificates_device", "device", "issued_at"),
    sa.Index("ix_certificates_not_after", "not_after"),
    sa.Index("ix_certificates_revoked", "not_after", sqlite_where=_REVOKED, postgresql_where=_REVOKED),
    sa.Index("ix_certificates_unlisted", "issuer", sqlite_where=_UNLISTED, postgresql_where=_UNLISTED),
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


@dataclass(frozen=True)
class Crl:
    number: int
    this_update: datetime
    next_update: datetime
    der: bytes


@dataclass(frozen=True)
class RevokedEntry:
    serial: int
    revoked_at: datetime
    reason: RevocationReason


@dataclass(frozen=True)
class Shown:
    """A certificate that a client shows.

    Attributes:
        is_successor: whether earlier ones of its device are live.
    """

    is_revoked: bool
    is_successor: bool


_RECORD = (
    certificates.c.serial, certificates.c.device, certificates.c.not_before, certificates.c.not_after,
    certificates.c.issued_at, certificates.c.revoked_at, certificates.c.revocation_reason,
    certificates.c.revocation_note,
)  # fmt: skip
_INSERT = certificates.insert()
_LIVE = (
    sa.select(certificates.c.serial)
    .where(
        certificates.c.device == sa.bindparam("of"),
        certificates.c.revoked_at.is_(None),
        certificates.c.not_after >= sa.bindparam("now"),
    )
    .order_by(certificates.c.issued_at, certificates.c.serial)
)
_LAST_ISSUED = sa.select(sa.func.max(certificates.c.issued_at)).where(
    certificates.c.device == sa.bindparam("of")
)
_REVOKED_SERIALS = sa.select(certificates.c.serial).where(
    certificates.c.revoked_at.is_not(None), certificates.c.not_after >= sa.bindparam("now")
)
_REVOKED_SERIALS_OF = _REVOKED_SERIALS.where(certificates.c.device == sa.bindparam("of"))
_UNEXPIRED = (
    sa.select(certificates.c.device, certificates.c.serial, certificates.c.revoked_at.is_not(None))
    .where(
        certificates.c.device.in_(sa.bindparam("of", expanding=True)),
        certificates.c.not_after > sa.bindparam("now"),
    )
    .order_by(certificates.c.device, certificates.c.issued_at.desc())
)
_BY_SERIAL = sa.select(*_RECORD).where(certificates.c.serial == sa.bindparam("wanted"))
# Every renewal revokes what it followed: built once, as the others.
_REVOKE = (
    certificates.update()
    .where(
        certificates.c.serial.in_(sa.bindparam("serials", expanding=True)),
        certificates.c.revoked_at.is_(None),
    )
    .values(
        revoked_at=sa.bindparam("at"),
        revocation_reason=sa.bindparam("reason"),
        revocation_note=sa.bindparam("note"),
    )
)
_used = certificates.alias("used")
_SUPERSEDED = (
    sa.select(certificates.c.device, certificates.c.serial, _used.c.serial.label("by"))
    .join(
        _used,
        (_used.c.device == certificates.c.device) & (_used.c.issued_at > certificates.c.issued_at),
    )
    .where(
        _used.c.serial.in_(sa.bindparam("serials", expanding=True)),
        _used.c.revoked_at.is_(None),
        certificates.c.revoked_at.is_(None),
        certificates.c.not_after >= sa.bindparam("now"),
    )
    .order_by(certificates.c.device, certificates.c.issued_at)
)
_earlier, _later = certificates.alias("earlier"), certificates.alias("later")
_SHOWN = sa.select(
    certificates.c.revoked_at,
    sa.exists()
    .where(
        _earlier.c.device == certificates.c.device,
        _earlier.c.issued_at < certificates.c.issued_at,
        _earlier.c.revoked_at.is_(None),
        _earlier.c.not_after >= sa.bindparam("now"),
    )
    .label("is_successor"),
).where(certificates.c.serial == sa.bindparam("wanted"))
# Live certificates of devices that have more than one.
_ONE_OF_SEVERAL = sa.select(certificates.c.serial, certificates.c.der).where(
    certificates.c.device.in_(sa.bindparam("devices", expanding=True)),
    certificates.c.revoked_at.is_(None),
    certificates.c.not_after >= sa.bindparam("now"),
    sa.exists().where(
        _later.c.device == certificates.c.device,
        _later.c.serial != certificates.c.serial,
        _later.c.revoked_at.is_(None),
        _later.c.not_after >= sa.bindparam("now"),
    ),
)


def insert_certificate(tx: Tx, record: CertificateRecord, *, issuer: str, der: bytes) -> None:
    # Values beside the statement, not in it: SQLAlchemy then compiles it once, which halves the cost.
    tx.conn.execute(
        _INSERT,
        {
            "serial": f"{record.serial:x}",
            "issuer": issuer,
            "device": record.device_id,
            "not_before": record.not_before,
            "not_after": record.not_after,
            "issued_at": record.issued_at,
            "der": der,
        },
    )


def find_last_issued(tx: Tx, device_id: str) -> datetime | None:
    """Return when a device was last issued a certificate, None when it never was."""
    return tx.conn.execute(_LAST_ISSUED, {"of": device_id}).scalar()


def find_certificate(tx: Tx, serial: int) -> CertificateRecord | None:
    row = tx.conn.execute(_BY_SERIAL, {"wanted": f"{serial:x}"}).one_or_none()
    return None if row is None else _as_record(row)


def find_shown(tx: Tx, serial: int) -> Shown | None:
    """Return what matters of a certificate that somebody shows, None when we never issued it."""
    row = tx.conn.execute(_SHOWN, {"wanted": f"{serial:x}", "now": tx.now}).one_or_none()
    return None if row is None else Shown(row.revoked_at is not None, bool(row.is_successor))


def list_certificates(tx: Tx, device_id: str, *, limit: int) -> list[CertificateRecord]:
    query = (
        sa.select(*_RECORD)
        .where(certificates.c.device == device_id)
        .order_by(certificates.c.issued_at.desc(), certificates.c.serial)
        .limit(limit)
    )
    return [_as_record(row) for row in tx.conn.execute(query)]


def list_live_serials(tx: Tx, device_id: str) -> list[int]:
    """Return a device's serials that are neither revoked nor expired, in the order of their issue."""
    found = tx.conn.execute(_LIVE, {"of": device_id, "now": tx.now})
    return [int(serial, 16) for serial in found.scalars()]


def list_superseded(tx: Tx, used: Collection[int]) -> list[Superseded]:
    """Return the live certificates issued before a live one of `used` to the same device."""
    found = tx.conn.execute(_SUPERSEDED, {"serials": [f"{serial:x}" for serial in used], "now": tx.now})
    return [Superseded(device, int(serial, 16), int(by, 16)) for device, serial, by in found]


def list_several(tx: Tx, device_ids: Collection[str]) -> list[tuple[int, bytes]]:
    """Return serial and DER of each live certificate of those devices that have more than one."""
    found = tx.conn.execute(_ONE_OF_SEVERAL, {"devices": sorted(device_ids), "now": tx.now})
    return [(int(serial, 16), der) for serial, der in found]


def revoke(tx: Tx, serials: Collection[int], reason: RevocationReason, note: str) -> int:
    """Mark those of `serials` that are not revoked yet; return how many were."""
    texts = [f"{serial:x}" for serial in serials]
    values = {"serials": texts, "at": tx.now, "reason": reason.value, "note": note[:MAX_NOTE_CHARS]}
    return tx.conn.execute(_REVOKE, values).rowcount


def list_revoked_serials(tx: Tx, device_id: str | None, now: datetime) -> list[int]:
    """Return the serials that are revoked and have not expired, of one device or of all."""
    if device_id is None:
        found = tx.conn.execute(_REVOKED_SERIALS, {"now": now})
    else:
        found = tx.conn.execute(_REVOKED_SERIALS_OF, {"now": now, "of": device_id})
    return [int(serial, 16) for serial in found.scalars()]


def list_unexpired(tx: Tx, devices: Collection[str]) -> list[tuple[str, str, bool]]:
    """Return device, serial in hexadecimal and whether it is revoked, each device's newest first."""
    found = tx.conn.execute(_UNEXPIRED, {"of": list(devices), "now": tx.now}).all()
    return [(device, serial, bool(is_revoked)) for device, serial, is_revoked in found]


def list_ending(tx: Tx, until: datetime, among: IdQuery) -> list[EndingCertificate]:
    """Return each device of `among` with its last unrevoked certificate, when that ends before `until`."""
    later = certificates.alias("later")
    has_later = sa.exists().where(
        later.c.device == certificates.c.device,
        later.c.revoked_at.is_(None),
        later.c.not_after >= until,
    )
    query = (
        sa.select(certificates.c.device, certificates.c.not_after)
        .where(
            certificates.c.not_after < until,
            certificates.c.revoked_at.is_(None),
            is_among(certificates.c.device, among),
            ~has_later,
        )
        .order_by(certificates.c.not_after)
    )
    # Grouped here, not in SQL: SQLite would walk the index of devices over every certificate there is.
    last = {row.device: row.not_after for row in tx.conn.execute(query)}
    return [EndingCertificate(device, ends_at) for device, ends_at in last.items()]


def has_unlisted(tx: Tx, issuer: str) -> bool:
    """Whether a certificate was revoked, other than by its successor, and no CRL lists it yet."""
    query = sa.select(certificates.c.serial).where(
        certificates.c.issuer == issuer,
        certificates.c.revoked_at.is_not(None),
        certificates.c.crl_number.is_(None),
        certificates.c.revocation_reason != RevocationReason.SUPERSEDED.value,
        certificates.c.not_after >= tx.now,
    )
    return tx.conn.execute(query.limit(1)).first() is not None


def list_for_crl(tx: Tx, issuer: str, *, number: int, since: datetime) -> list[RevokedEntry]:
    """Return what CRL `number` lists, and remember that it does: revoked, and not expired before `since`."""
    ours = certificates.c.issuer == issuer
    tx.conn.execute(
        certificates.update()
        .where(ours, certificates.c.revoked_at.is_not(None), certificates.c.crl_number.is_(None))
        .values(crl_number=number)
    )
    query = sa.select(
        certificates.c.serial, certificates.c.revoked_at, certificates.c.revocation_reason
    ).where(
        ours,
        certificates.c.revoked_at.is_not(None),
        certificates.c.crl_number.is_not(None),
        certificates.c.not_after >= since,
    )
    return [
        RevokedEntry(int(serial, 16), revoked_at, RevocationReason(reason))
        for serial, revoked_at, reason in tx.conn.execute(query)
    ]


def find_crl(tx: Tx, issuer: str) -> Crl | None:
    row = tx.conn.execute(crls.select().where(crls.c.issuer == issuer, crls.c.number > 0)).one_or_none()
    return None if row is None else Crl(row.number, row.this_update, row.next_update, row.der)


def lock_crl(tx: Tx, issuer: str) -> None:
    """Hold an issuer's CRL until the transaction ends, so that no two get one number."""
    held = crls.select().where(crls.c.issuer == issuer).with_for_update()
    if tx.conn.execute(held).one_or_none() is None:
        with suppress(sa.exc.IntegrityError), tx.conn.begin_nested():
            tx.conn.execute(
                crls.insert().values(issuer=issuer, number=0, this_update=tx.now, next_update=tx.now, der=b"")
            )
        tx.conn.execute(held)


def update_crl(tx: Tx, issuer: str, crl: Crl) -> None:
    tx.conn.execute(crls.update().where(crls.c.issuer == issuer).values(**asdict(crl)))


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
        revocation_note=row.revocation_note,
    )
