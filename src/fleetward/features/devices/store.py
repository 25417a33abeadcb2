"""The registry's SQL."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.devices.model import (
    AttestationPolicy,
    Device,
    DeviceState,
    HardwareIdentity,
    HardwareKind,
    KeyTier,
    Model,
)

# In one statement; SQLite takes 32,766 and PostgreSQL 65,535.
_MAX_VALUES = 5000

models = sa.Table(
    "models",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("attestation", sa.String(16), nullable=False),
    sa.Column("min_tier", sa.String(16), nullable=False),
    sa.Column("cert_lifetime_s", sa.Integer, nullable=False),
    sa.Column("appraisal_lifetime_s", sa.Integer, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
)
devices = sa.Table(
    "devices",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("model", sa.String(64), sa.ForeignKey("models.id"), nullable=False, index=True),
    sa.Column("group", sa.String(64), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("tier", sa.String(16), nullable=True),
    sa.Column("hardware_kind", sa.String(16), nullable=True),
    sa.Column("hardware_fingerprint", sa.String(64), nullable=True, unique=True),
    sa.Column("firmware_version", sa.String(64), nullable=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("state_changed_at", Timestamp, nullable=False),
    sa.Column("state_reason", sa.String(200), nullable=False),
)

# Made once: building and hashing a statement costs more than looking up the row.
_MODEL_BY_ID = models.select().where(models.c.id == sa.bindparam("wanted"))
_DEVICE_BY_ID = devices.select().where(devices.c.id == sa.bindparam("wanted"))


def insert_model(tx: Tx, model: Model) -> None:
    tx.conn.execute(
        models.insert().values(
            id=model.id,
            attestation=model.attestation.value,
            min_tier=model.min_tier.value,
            cert_lifetime_s=int(model.cert_lifetime.total_seconds()),
            appraisal_lifetime_s=int(model.appraisal_lifetime.total_seconds()),
            created_at=tx.now,
        )
    )


def find_model(tx: Tx, model_id: str) -> Model | None:
    row = tx.conn.execute(_MODEL_BY_ID, {"wanted": model_id}).one_or_none()
    return None if row is None else _as_model(row)


def list_models(tx: Tx) -> list[Model]:
    return [_as_model(row) for row in tx.conn.execute(models.select().order_by(models.c.id))]


def insert_devices(tx: Tx, found: Iterable[Device]) -> None:
    rows = [
        {
            "id": device.id,
            "model": device.model,
            "group": device.group,
            "state": device.state.value,
            "tier": device.tier and device.tier.value,
            "hardware_kind": device.hardware and device.hardware.kind.value,
            "hardware_fingerprint": device.hardware and device.hardware.fingerprint,
            "firmware_version": device.firmware_version,
            "created_at": device.created_at,
            "state_changed_at": device.state_changed_at,
            "state_reason": device.state_reason,
        }
        for device in found
    ]
    if rows:
        tx.conn.execute(devices.insert(), rows)


def find_device(tx: Tx, device_id: str) -> Device | None:
    row = tx.conn.execute(_DEVICE_BY_ID, {"wanted": device_id}).one_or_none()
    return None if row is None else _as_device(row)


def find_group(tx: Tx, device_id: str) -> str | None:
    query = sa.select(devices.c.group).where(devices.c.id == device_id)
    group: str | None = tx.conn.execute(query).scalar_one_or_none()
    return group


def find_by_hardware(tx: Tx, fingerprint: str) -> Device | None:
    row = tx.conn.execute(devices.select().where(devices.c.hardware_fingerprint == fingerprint)).one_or_none()
    return None if row is None else _as_device(row)


def list_taken(tx: Tx, ids: Sequence[str], fingerprints: Sequence[str]) -> list[Device]:
    """Return the registered devices that have one of these ids or chips."""
    found: list[Device] = []
    for column, wanted in ((devices.c.id, ids), (devices.c.hardware_fingerprint, fingerprints)):
        for start in range(0, len(wanted), _MAX_VALUES):
            query = devices.select().where(column.in_(wanted[start : start + _MAX_VALUES]))
            found += [_as_device(row) for row in tx.conn.execute(query)]
    return found


def list_devices(
    tx: Tx,
    *,
    model: str | None,
    group: str | None,
    state: DeviceState | None,
    search: str | None,
    groups: frozenset[str] | None,
    after: str,
    limit: int,
) -> list[Device]:
    query = devices.select().where(devices.c.id > after).order_by(devices.c.id).limit(limit)
    if model is not None:
        query = query.where(devices.c.model == model)
    if group is not None:
        query = query.where(devices.c.group == group)
    if groups is not None:
        query = query.where(devices.c.group.in_(sorted(groups)))
    if state is not None:
        query = query.where(devices.c.state == state.value)
    if search:
        query = query.where(devices.c.id.icontains(search, autoescape=True))
    return [_as_device(row) for row in tx.conn.execute(query)]


def update_state(tx: Tx, device: Device, to: DeviceState, reason: str) -> bool:
    """Move the device when it is still in the state that was read; return whether it moved."""
    result = tx.conn.execute(
        devices.update()
        .where(devices.c.id == device.id, devices.c.state == device.state.value)
        .values(state=to.value, state_changed_at=tx.now, state_reason=reason)
    )
    return result.rowcount == 1


def update_device(tx: Tx, device_id: str, **values: Any) -> None:
    tx.conn.execute(devices.update().where(devices.c.id == device_id).values(**values))


def _as_model(row: sa.Row[Any]) -> Model:
    return Model(
        id=row.id,
        attestation=AttestationPolicy(row.attestation),
        min_tier=KeyTier(row.min_tier),
        cert_lifetime=timedelta(seconds=row.cert_lifetime_s),
        appraisal_lifetime=timedelta(seconds=row.appraisal_lifetime_s),
    )


def _as_device(row: sa.Row[Any]) -> Device:
    hardware = None
    if row.hardware_fingerprint is not None:
        hardware = HardwareIdentity(HardwareKind(row.hardware_kind), row.hardware_fingerprint)
    return Device(
        id=row.id,
        model=row.model,
        group=row.group,
        state=DeviceState(row.state),
        tier=None if row.tier is None else KeyTier(row.tier),
        hardware=hardware,
        firmware_version=row.firmware_version,
        created_at=row.created_at,
        state_changed_at=row.state_changed_at,
        state_reason=row.state_reason,
    )
