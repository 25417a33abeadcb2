"""Operator routes of enrollment: devices by claim, factories, shipments."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from fleetward.base.body import Body
from fleetward.base.clock import render_time
from fleetward.base.ids import parse_duration
from fleetward.base.web import Db, Principal, requires
from fleetward.features.enrollment import service
from fleetward.features.enrollment.context import context_of
from fleetward.features.enrollment.device_http import device_router
from fleetward.features.enrollment.model import Claim, Factory, parse_factory

__all__ = ["device_router", "router"]

router = APIRouter(tags=["enrollment"])


class DeviceBody(Body):
    """A device to register; `claim_lifetime` such as `1h`."""

    id: str
    model: str
    group: str = "default"
    claim_lifetime: str = "1h"


class ClaimBody(Body):
    lifetime: str = "1h"


class FactoryBody(Body):
    """A factory to trust, in PEM. `public_key` may be followed by the CA certificates of its IDevIDs."""

    several_lines = frozenset({"public_key", "idevid_authorities"})

    name: str
    public_key: str = Field(max_length=64 * 1024)
    idevid_authorities: str = Field(default="", max_length=64 * 1024)


@dataclass(frozen=True)
class ClaimView:
    """A fresh claim: the only time its token is shown."""

    id: str
    claim: str
    expires_at: str
    est_url: str


@dataclass(frozen=True)
class FactoryView:
    name: str
    public_key: str
    idevid_authorities: str


async def _read_body(request: Request) -> bytes:
    return await request.body()


@router.post("/devices", status_code=201)
def add_device(
    request: Request, db: Db, body: DeviceBody, principal: Annotated[Principal, requires("device.add")]
) -> ClaimView:
    lifetime = parse_duration(body.claim_lifetime, what="claim_lifetime")
    principal.check_group(body.group)
    with db.write(principal.actor) as tx:
        _, claim = service.add_device(tx, body.id, body.model, group=body.group, claim_lifetime=lifetime)
    return _view_claim(request, claim)


@router.post("/devices/import")
def import_devices(
    db: Db,
    principal: Annotated[Principal, requires("device.import")],
    content: Annotated[bytes, Depends(_read_body)],  # after the permission: nobody else's 256 MiB are held
) -> service.ImportReport:
    """Register the devices of a signed shipment manifest: the request's body, all or none."""
    with db.write(principal.actor) as tx:
        return service.import_manifest(tx, None, content, check_group=principal.check_group)


@router.post("/devices/{device_id}/claims", status_code=201)
def create_claim(
    request: Request,
    db: Db,
    device_id: str,
    body: ClaimBody,
    principal: Annotated[Principal, requires("device.claim")],
) -> ClaimView:
    with db.write(principal.actor) as tx:
        claim = service.create_claim(tx, device_id, parse_duration(body.lifetime, what="lifetime"))
    return _view_claim(request, claim)


@router.post("/factories", status_code=201)
def trust_factory(
    request: Request, db: Db, body: FactoryBody, principal: Annotated[Principal, requires("factory.trust")]
) -> FactoryView:
    with db.write(principal.actor) as tx:
        factory = service.trust_factory(
            tx, parse_factory(body.name, body.public_key, body.idevid_authorities)
        )
        authorities = service.list_idevid_authorities(tx)
    context_of(request).on_authorities(authorities)
    return _view_factory(factory)


@router.get("/factories")
def list_factories(db: Db, _principal: Annotated[Principal, requires("factory.read")]) -> list[FactoryView]:
    with db.read() as tx:
        return [_view_factory(factory) for factory in service.list_factories(tx)]


def _view_claim(request: Request, claim: Claim) -> ClaimView:
    est_url = context_of(request).est_url
    return ClaimView(claim.device_id, claim.token, render_time(claim.expires_at), est_url)


def _view_factory(factory: Factory) -> FactoryView:
    return FactoryView(factory.name, factory.public_key, factory.idevid_authorities)
