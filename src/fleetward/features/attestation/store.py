"""Attestation's SQL: vendors, challenges, attestation keys, reference values, appraisals."""

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import IdQuery, RowId, Timestamp, Tx, is_among, metadata
from fleetward.features.attestation.model import Appraisal, AttestationKey, Reason, ReasonCode, Reference
from fleetward.wire.event_log import Measured

MAX_OPEN = 4
_BAD = sa.text("NOT good")


class ChallengeKind(StrEnum):
    ACTIVATION = "activation"
    NONCE = "nonce"


ek_anchors = sa.Table(
    "attestation_ek_anchors",
    metadata,
    sa.Column("fingerprint", sa.String(64), primary_key=True),
    sa.Column("subject", sa.String(500), nullable=False),
    sa.Column("der", sa.LargeBinary, nullable=False),
    sa.Column("added_at", Timestamp, nullable=False),
)
challenges = sa.Table(
    "attestation_challenges",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("device", sa.String(64), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("nonce", sa.LargeBinary(64), nullable=False),
    sa.Column("secret_hash", sa.LargeBinary(32), nullable=True),
    sa.Column("ek_fingerprint", sa.String(64), nullable=True),
    sa.Column("ak_public", sa.LargeBinary, nullable=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False, index=True),
)
keys = sa.Table(
    "attestation_keys",
    metadata,
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("ek_fingerprint", sa.String(64), nullable=False),
    sa.Column("public", sa.LargeBinary, nullable=False),
    sa.Column("activated_at", Timestamp, nullable=False),
)
references = sa.Table(
    "attestation_references",
    metadata,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("version", sa.String(64), primary_key=True),
    sa.Column("added_at", Timestamp, nullable=False),
    sa.Column("withdrawn_at", Timestamp, nullable=True),
)
appraisals = sa.Table(
    "attestation_appraisals",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=True),
    sa.Column("device", sa.String(64), nullable=False),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("good", sa.Boolean, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("reasons", sa.Text, nullable=False),
    sa.Column("firmware_version", sa.String(64), nullable=True),
    sa.Column("reset_count", sa.BigInteger, nullable=False),
    sa.Column("restart_count", sa.BigInteger, nullable=False),
    sa.Index("ix_attestation_appraisals_device", "device", "id"),
    sa.Index("ix_attestation_appraisals_bad", "device", "id", sqlite_where=_BAD, postgresql_where=_BAD),
)

_LATEST = sa.select(appraisals.c.device, appraisals.c.good, appraisals.c.expires_at).where(
    appraisals.c.id.in_(
        sa.select(sa.func.max(appraisals.c.id))
        .where(appraisals.c.device.in_(sa.bindparam("of", expanding=True)))
        .group_by(appraisals.c.device)
        .scalar_subquery()
    )
)


def put_anchor(tx: Tx, fingerprint: str, subject: str, der: bytes) -> bool:
    """Trust a vendor's certificate; return whether it is new."""
    if tx.conn.execute(ek_anchors.select().where(ek_anchors.c.fingerprint == fingerprint)).first():
        return False
    tx.conn.execute(
        ek_anchors.insert().values(fingerprint=fingerprint, subject=subject[:500], der=der, added_at=tx.now)
    )
    return True


def list_anchors(tx: Tx) -> list[sa.Row[Any]]:
    return list(
        tx.conn.execute(ek_anchors.select().order_by(ek_anchors.c.added_at, ek_anchors.c.fingerprint))
    )


def delete_anchor(tx: Tx, fingerprint: str) -> bool:
    return tx.conn.execute(ek_anchors.delete().where(ek_anchors.c.fingerprint == fingerprint)).rowcount == 1


def insert_challenge(tx: Tx, kind: ChallengeKind, **values: Any) -> None:
    tx.conn.execute(challenges.insert().values(created_at=tx.now, kind=kind.value, **values))


def make_room(tx: Tx, device_id: str, kind: ChallengeKind) -> None:
    """Delete a device's oldest challenges of a kind, so that there is room for one more."""
    own = (challenges.c.device == device_id, challenges.c.kind == kind.value)
    kept = (
        sa.select(challenges.c.id)
        .where(*own)
        .order_by(challenges.c.created_at.desc(), challenges.c.id)
        .limit(MAX_OPEN - 1)
    )
    tx.conn.execute(challenges.delete().where(*own, challenges.c.id.not_in(kept)))


def take_challenge(tx: Tx, challenge_id: str, kind: ChallengeKind) -> sa.Row[Any] | None:
    """Return a challenge and delete it: each is used once, whatever comes of it."""
    row = tx.conn.execute(
        challenges.select()
        .where(challenges.c.id == challenge_id, challenges.c.kind == kind.value)
        .with_for_update()
    ).one_or_none()
    if row is not None:
        tx.conn.execute(challenges.delete().where(challenges.c.id == challenge_id))
    return row


def take_nonce(tx: Tx, device_id: str, kind: ChallengeKind, nonce: bytes) -> bool:
    """Return whether this nonce was open for the device, and delete it."""
    taken = tx.conn.execute(
        challenges.delete().where(
            challenges.c.device == device_id,
            challenges.c.kind == kind.value,
            challenges.c.nonce == nonce,
            challenges.c.expires_at > tx.now,
        )
    )
    return taken.rowcount == 1


def delete_expired_challenges(tx: Tx) -> int:
    return tx.conn.execute(challenges.delete().where(challenges.c.expires_at <= tx.now)).rowcount


def put_key(tx: Tx, key: AttestationKey) -> None:
    tx.conn.execute(keys.delete().where(keys.c.device == key.device_id))
    tx.conn.execute(
        keys.insert().values(
            device=key.device_id,
            ek_fingerprint=key.ek_fingerprint,
            public=key.public,
            activated_at=key.activated_at,
        )
    )


def find_key(tx: Tx, device_id: str) -> AttestationKey | None:
    row = tx.conn.execute(keys.select().where(keys.c.device == device_id)).one_or_none()
    return (
        None if row is None else AttestationKey(row.device, row.ek_fingerprint, row.public, row.activated_at)
    )


def put_references(tx: Tx, found: Iterable[Reference]) -> int:
    """Insert those that are new; return how many."""
    new = [one for one in found if not _has_reference(tx, one)]
    for one in new:
        tx.conn.execute(
            references.insert().values(
                model=one.model,
                kind=one.kind.value,
                digest=one.digest,
                version=one.version,
                added_at=tx.now,
                withdrawn_at=None,
            )
        )
    return len(new)


def list_references(tx: Tx, models: tuple[str, ...]) -> list[Reference]:
    query = (
        references.select()
        .where(references.c.model.in_(models))
        .order_by(references.c.added_at, references.c.kind, references.c.digest)
    )
    return [
        Reference(row.model, Measured(row.kind), row.digest, row.version, row.withdrawn_at)
        for row in tx.conn.execute(query)
    ]


def withdraw_reference(tx: Tx, one: Reference) -> bool:
    """Mark a reference as withdrawn; return whether it was not before."""
    query = references.update().where(*_is(one), references.c.withdrawn_at.is_(None))
    return tx.conn.execute(query.values(withdrawn_at=tx.now)).rowcount == 1


def insert_appraisal(tx: Tx, verdict: Appraisal, *, keep: int) -> None:
    """Record a verdict and forget all but the newest `keep` of that device."""
    tx.conn.execute(
        appraisals.insert().values(
            device=verdict.device_id,
            at=verdict.at,
            good=verdict.good,
            expires_at=verdict.expires_at,
            reasons=json.dumps([[reason.code, reason.message] for reason in verdict.reasons]),
            firmware_version=verdict.firmware_version,
            reset_count=verdict.reset_count,
            restart_count=verdict.restart_count,
        )
    )
    edge = (
        sa.select(appraisals.c.id)
        .where(appraisals.c.device == verdict.device_id)
        .order_by(appraisals.c.id.desc())
        .offset(keep - 1)
        .limit(1)
        .scalar_subquery()
    )
    tx.conn.execute(
        appraisals.delete().where(appraisals.c.device == verdict.device_id, appraisals.c.id < edge)
    )


def count_appraisals(tx: Tx, device_id: str, since: datetime) -> int:
    query = sa.select(sa.func.count()).where(appraisals.c.device == device_id, appraisals.c.at > since)
    return tx.conn.execute(query).scalar_one()


def list_appraisals(tx: Tx, device_id: str, *, limit: int) -> list[Appraisal]:
    query = (
        appraisals.select()
        .where(appraisals.c.device == device_id)
        .order_by(appraisals.c.id.desc())
        .limit(limit)
    )
    return [_as_appraisal(row) for row in tx.conn.execute(query)]


def list_latest(tx: Tx, devices: Collection[str]) -> list[tuple[str, bool, datetime]]:
    """Return device, whether it was good and its end, of each device's last appraisal."""
    found = tx.conn.execute(_LATEST, {"of": list(devices)}).all()
    return [(device, bool(good), expires_at) for device, good, expires_at in found]


def list_failing(tx: Tx, among: IdQuery, *, limit: int) -> tuple[int, list[Appraisal]]:
    """Return how many devices of `among` failed their last appraisal, and the newest of these verdicts."""
    later = appraisals.alias("later")
    has_later = sa.exists().where(later.c.device == appraisals.c.device, later.c.id > appraisals.c.id)
    # As the partial index says it: `good = false` would not find it in SQLite.
    where = (sa.text("NOT attestation_appraisals.good"), is_among(appraisals.c.device, among), ~has_later)
    count = tx.conn.execute(sa.select(sa.func.count()).select_from(appraisals).where(*where)).scalar_one()
    newest = appraisals.select().where(*where).order_by(appraisals.c.id.desc()).limit(limit)
    return count, [_as_appraisal(row) for row in tx.conn.execute(newest)]


def _has_reference(tx: Tx, one: Reference) -> bool:
    return tx.conn.execute(references.select().where(*_is(one))).first() is not None


def _is(one: Reference) -> tuple[sa.ColumnElement[bool], ...]:
    columns = references.c
    return (
        columns.model == one.model,
        columns.kind == one.kind.value,
        columns.digest == one.digest,
        columns.version == one.version,
    )


def _as_appraisal(row: sa.Row[Any]) -> Appraisal:
    return Appraisal(
        device_id=row.device,
        at=row.at,
        good=bool(row.good),
        expires_at=row.expires_at,
        reasons=tuple(Reason(ReasonCode(code), text) for code, text in json.loads(row.reasons)),
        firmware_version=row.firmware_version,
        reset_count=row.reset_count,
        restart_count=row.restart_count,
    )
