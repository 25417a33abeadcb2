"""Operator routes of the registry."""

from dataclasses import asdict, dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from fleetward.base.body import Body
from fleetward.base.clock import render_time
from fleetward.base.ids import parse_duration, render_duration
from fleetward.base.web import Db, Principal, requires
from fleetward.features.devices import service
from fleetward.features.devices.model import (
    AttestationPolicy,
    Device,
    DeviceState,
    KeyTier,
    Model,
    Selection,
    parse_order,
    render_cursor,
)

router = APIRouter(tags=["devices"])
_MAX_PAGE = 1000
_MAX_ROW = 100_000_000


class ModelBody(Body):
    """A product and what its devices must fulfil; durations such as `24h`."""

    id: str
    attestation: AttestationPolicy = Field(default=AttestationPolicy.REQUIRED, strict=False)
    min_tier: KeyTier = Field(default=KeyTier.SOFTWARE, strict=False)
    cert_lifetime: str = "24h"
    appraisal_lifetime: str = "6h"


class ReasonBody(Body):
    reason: str = Field(default="by an operator", min_length=1, max_length=200)


@dataclass(frozen=True)
class ModelView:
    id: str
    attestation: AttestationPolicy
    min_tier: KeyTier
    cert_lifetime: str
    appraisal_lifetime: str


@dataclass(frozen=True)
class DeviceView:
    id: str
    model: str
    group: str
    state: DeviceState
    state_reason: str
    state_changed_at: str
    tier: KeyTier | None
    hardware_kind: str | None
    hardware_fingerprint: str | None
    firmware_version: str | None
    created_at: str


@dataclass(frozen=True)
class DevicePage:
    devices: list[DeviceView]
    next_after: str | None


@dataclass(frozen=True)
class CountsView:
    total: int
    by_state: dict[str, int]
    by_model: dict[str, int]
    by_firmware: dict[str, int]
    by_group: dict[str, int]


@router.post("/models", status_code=201)
def add_model(db: Db, body: ModelBody, principal: Annotated[Principal, requires("model.add")]) -> ModelView:
    model = Model(
        id=body.id,
        attestation=body.attestation,
        min_tier=body.min_tier,
        cert_lifetime=parse_duration(body.cert_lifetime, what="cert_lifetime"),
        appraisal_lifetime=parse_duration(body.appraisal_lifetime, what="appraisal_lifetime"),
    )
    with db.write(principal.actor) as tx:
        return _view_model(service.add_model(tx, model))


@router.get("/models")
def list_models(db: Db, _principal: Annotated[Principal, requires("model.read")]) -> list[ModelView]:
    with db.read() as tx:
        return [_view_model(model) for model in service.list_models(tx)]


def select_devices(
    model: str | None = None,
    group: str | None = None,
    state: DeviceState | None = None,
    firmware: Annotated[str | None, Query(max_length=64)] = None,
    search: Annotated[str | None, Query(max_length=64)] = None,
) -> Selection:
    """Return the selection that a query asks for."""
    return Selection(model=model, group=group, state=state, firmware=firmware, search=search)


Selected = Annotated[Selection, Depends(select_devices)]


@router.get("/devices")
def list_devices(
    db: Db,
    selection: Selected,
    principal: Annotated[Principal, requires("device.read")],
    sort: Annotated[str, Query(max_length=16)] = "id",
    after: Annotated[str, Query(max_length=160)] = "",
    at: Annotated[int, Query(ge=0, le=_MAX_ROW)] = 0,
    limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 200,
) -> DevicePage:
    """Return devices by `sort`: id, model, group, state, firmware or changed, `-` for the last first.

    Go on behind a page with `after` = its `next_after`; or begin at row number `at`.
    """
    order = parse_order(sort)
    visible = replace(selection, groups=principal.groups)
    with db.read() as tx:
        found = service.list_devices(tx, visible, order=order, after=after, at=at, limit=limit)
    is_full = len(found) == limit
    return DevicePage(
        [view_device(one) for one in found], render_cursor(found[-1], order) if is_full else None
    )


@router.get("/devices/counts")
def count_devices(
    db: Db, selection: Selected, principal: Annotated[Principal, requires("device.read")]
) -> CountsView:
    """Return how many devices match, by state, model, firmware ("" when not known) and group."""
    with db.read() as tx:
        return CountsView(**asdict(service.count_devices(tx, replace(selection, groups=principal.groups))))


@router.get("/devices/{device_id}")
def get_device(
    db: Db, device_id: str, _principal: Annotated[Principal, requires("device.read")]
) -> DeviceView:
    with db.read() as tx:
        return view_device(service.get_device(tx, device_id))


@router.post("/devices/{device_id}/quarantine")
def quarantine(
    db: Db, device_id: str, body: ReasonBody, principal: Annotated[Principal, requires("device.quarantine")]
) -> DeviceView:
    with db.write(principal.actor) as tx:
        return view_device(service.transition(tx, device_id, DeviceState.QUARANTINED, body.reason))


@router.post("/devices/{device_id}/release")
def release(
    db: Db, device_id: str, body: ReasonBody, principal: Annotated[Principal, requires("device.release")]
) -> DeviceView:
    with db.write(principal.actor) as tx:
        return view_device(service.release(tx, device_id, body.reason))


@router.post("/devices/{device_id}/revoke")
def revoke(
    db: Db, device_id: str, body: ReasonBody, principal: Annotated[Principal, requires("device.revoke")]
) -> DeviceView:
    with db.write(principal.actor) as tx:
        return view_device(service.end(tx, device_id, DeviceState.REVOKED, body.reason))


@router.post("/devices/{device_id}/retire")
def retire(
    db: Db, device_id: str, body: ReasonBody, principal: Annotated[Principal, requires("device.retire")]
) -> DeviceView:
    with db.write(principal.actor) as tx:
        return view_device(service.end(tx, device_id, DeviceState.RETIRED, body.reason))


def view_device(device: Device) -> DeviceView:
    """Return the public form of a device."""
    return DeviceView(
        id=device.id,
        model=device.model,
        group=device.group,
        state=device.state,
        state_reason=device.state_reason,
        state_changed_at=render_time(device.state_changed_at),
        tier=device.tier,
        hardware_kind=None if device.hardware is None else device.hardware.kind.value,
        hardware_fingerprint=None if device.hardware is None else device.hardware.fingerprint,
        firmware_version=device.firmware_version,
        created_at=render_time(device.created_at),
    )


def _view_model(model: Model) -> ModelView:
    return ModelView(
        id=model.id,
        attestation=model.attestation,
        min_tier=model.min_tier,
        cert_lifetime=render_duration(model.cert_lifetime),
        appraisal_lifetime=render_duration(model.appraisal_lifetime),
    )
