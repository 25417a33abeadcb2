"""The registry's SQL."""

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import IdQuery, Timestamp, Tx, metadata
from fleetward.features.devices.model import (
    AttestationPolicy,
    Device,
    DeviceState,
    HardwareIdentity,
    HardwareKind,
    KeyTier,
    Model,
    Order,
    Selection,
    SortKey,
    Standing,
    parse_cursor,
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
    sa.Column("model", sa.String(64), sa.ForeignKey("models.id"), nullable=False),
    sa.Column("group", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("tier", sa.String(16), nullable=True),
    sa.Column("hardware_kind", sa.String(16), nullable=True),
    sa.Column("hardware_fingerprint", sa.String(64), nullable=True, unique=True),
    # "" when it is not known: two databases sort NULL to different ends, and a cursor cannot stand on it.
    sa.Column("firmware_version", sa.String(64), nullable=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("state_changed_at", Timestamp, nullable=False),
    sa.Column("state_reason", sa.String(200), nullable=False),
    # Each order and filter reads its page from an index; the last answers the counts without the table.
    sa.Index("ix_devices_model_id", "model", "id"),
    sa.Index("ix_devices_state_id", "state", "id"),
    sa.Index("ix_devices_firmware_id", "firmware_version", "id"),
    sa.Index("ix_devices_changed_id", "state_changed_at", "id"),
    sa.Index("ix_devices_group_id", "group", "id"),
    sa.Index("ix_devices_counts", "state", "model", "firmware_version", "group", "id"),
)
_SORTED_BY: dict[SortKey, sa.Column[Any]] = {
    SortKey.ID: devices.c.id,
    SortKey.MODEL: devices.c.model,
    SortKey.GROUP: devices.c.group,
    SortKey.STATE: devices.c.state,
    SortKey.FIRMWARE: devices.c.firmware_version,
    SortKey.CHANGED: devices.c.state_changed_at,
}

# Made once: building and hashing a statement costs more than looking up the row.
_MODEL_BY_ID = models.select().where(models.c.id == sa.bindparam("wanted"))
_DEVICE_BY_ID = devices.select().where(devices.c.id == sa.bindparam("wanted"))

_STANDINGS = (
    sa.select(devices.c.id, devices.c.state, models.c.attestation)
    .join_from(devices, models, devices.c.model == models.c.id)
    .where(devices.c.id > sa.bindparam("after"))
    .order_by(devices.c.id)
    .limit(sa.bindparam("most"))
)
_STANDINGS_OF = _STANDINGS.where(devices.c.id.in_(sa.bindparam("of", expanding=True)))
_STATES = {state.value: state for state in DeviceState}


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
            "firmware_version": device.firmware_version or "",
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
    tx: Tx, selection: Selection, *, order: Order, after: str, at: int, limit: int
) -> list[Device]:
    """Return a page: devices behind the cursor `after`, or from row number `at` on, counted from 0."""
    column = _SORTED_BY[order.key]
    keys = [devices.c.id] if column is devices.c.id else [column, devices.c.id]
    where = [*_conditions(selection), *_search(tx, selection.search)]
    if after:
        value, device_id = parse_cursor(after, order)
        bounds = [sa.literal(device_id)]
        if value is not None:
            bounds.insert(0, sa.literal(value, type_=column.type))
        found, bound = sa.tuple_(*keys), sa.tuple_(*bounds)
        where.append(found < bound if order.is_descending else found > bound)
    ordering = [key.desc() if order.is_descending else key for key in keys]
    query = devices.select().order_by(*ordering)
    if not at:
        query = query.where(*where).limit(limit)
    else:
        # The rows passed over are read from an index alone; only those of the page from the table.
        page = sa.select(devices.c.id).where(*where).order_by(*ordering).offset(at).limit(limit)
        query = query.where(devices.c.id.in_(page.scalar_subquery()))
    return [_as_device(row) for row in tx.conn.execute(query)]


def count_devices(tx: Tx, selection: Selection) -> list[tuple[tuple[str, ...], int]]:
    """Return each (state, model, firmware version, group) there is, and how many devices have it."""
    columns = (devices.c.state, devices.c.model, devices.c.firmware_version, devices.c.group)
    query = (
        sa.select(*columns, sa.func.count())
        .where(*_conditions(selection), *_search(tx, selection.search))
        .group_by(*columns)
    )
    return [((row[0], row[1], row[2] or "", row[3]), row[4]) for row in tx.conn.execute(query)]


def select_ids(selection: Selection, states: Collection[DeviceState] | None = None) -> IdQuery:
    """Return the query of the ids of a selection without search; with `states`, of those in one of them."""
    query = sa.select(devices.c.id).where(*_conditions(selection))
    return query if states is None else query.where(devices.c.state.in_([one.value for one in states]))


def list_by_ids(tx: Tx, ids: Sequence[str], groups: frozenset[str] | None) -> list[Device]:
    """Return those of `ids` that exist in these groups, by id."""
    found: list[Device] = []
    for start in range(0, len(ids), _MAX_VALUES):
        where = [devices.c.id.in_(ids[start : start + _MAX_VALUES]), *_conditions(Selection(groups=groups))]
        found += [_as_device(row) for row in tx.conn.execute(devices.select().where(*where))]
    return sorted(found, key=lambda one: one.id)


def list_standings(tx: Tx, *, ids: Collection[str] | None, after: str, limit: int) -> list[Standing]:
    """Return the standing of up to `limit` devices by id, those after `after`; with `ids`, of these only."""
    given = {"after": after, "most": limit} | ({} if ids is None else {"of": list(ids)})
    found = tx.conn.execute(_STANDINGS if ids is None else _STANDINGS_OF, given).all()
    return [
        Standing(device, _STATES[state], attestation == AttestationPolicy.REQUIRED)
        for device, state, attestation in found
    ]


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


def _conditions(selection: Selection) -> list[sa.ColumnElement[bool]]:
    wanted = (
        (devices.c.model, selection.model),
        (devices.c.group, selection.group),
        (devices.c.state, selection.state and selection.state.value),
        (devices.c.firmware_version, selection.firmware),
    )
    found = [column == value for column, value in wanted if value is not None]
    if selection.groups is not None:
        found.append(devices.c.group.in_(sorted(selection.groups)))
    return found


def _search(tx: Tx, text: str | None) -> list[sa.ColumnElement[bool]]:
    """Ids are ASCII: SQLite's LIKE ignores its case by itself, PostgreSQL folds it fast in collation C."""
    if not text:
        return []
    if tx.conn.dialect.name == "sqlite":
        return [devices.c.id.contains(text, autoescape=True)]
    folded = sa.func.lower(sa.collate(devices.c.id, "C"))
    return [folded.contains(text.lower(), autoescape=True)]


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
        firmware_version=row.firmware_version or None,
        created_at=row.created_at,
        state_changed_at=row.state_changed_at,
        state_reason=row.state_reason,
    )
