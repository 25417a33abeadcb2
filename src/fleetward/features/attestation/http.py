"""Routes of attestation: devices hand in evidence, operators see verdicts and manage what is trusted."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict

from fleetward.base.clock import render_time
from fleetward.base.web import Db, Principal, requires
from fleetward.features.attestation import service
from fleetward.features.attestation.model import Appraisal
from fleetward.features.devices.peer import Peer
from fleetward.wire.event_log import Measured
from fleetward.wire.evidence import (
    EVIDENCE_PATH,
    NONCE_PATH,
    AppraisalAnswer,
    NonceIssued,
    parse_evidence,
    render_answer,
    render_nonce,
)

router = APIRouter(tags=["attestation"])
device_router = APIRouter(tags=["attestation"])
_JSON = "application/json"


class AnchorBody(BaseModel):
    """TPM vendors' certificates, PEM, one after the other."""

    model_config = ConfigDict(extra="forbid")

    pem: str


class BootReferenceBody(BaseModel):
    """A boot stage or a pinned-keys file that devices of the model may measure, by SHA-256 in hexadecimal."""

    model_config = ConfigDict(extra="forbid")

    kind: Measured
    digest: str
    version: str = ""


@dataclass(frozen=True)
class ReasonView:
    code: str
    message: str


@dataclass(frozen=True)
class AppraisalView:
    at: str
    good: bool
    expires_at: str
    reasons: list[ReasonView]
    firmware_version: str | None
    reset_count: int
    restart_count: int


@dataclass(frozen=True)
class ReferenceView:
    model: str
    kind: str
    digest: str
    version: str


@dataclass(frozen=True)
class AnchorView:
    subject: str
    not_after: str


@dataclass(frozen=True)
class Added:
    added: int


async def read_body(request: Request) -> bytes:
    return await request.body()


@device_router.get(NONCE_PATH)
def issue_nonce(db: Db, peer: Peer) -> Response:
    """A nonce to quote over, good once."""
    with db.write(f"device:{peer.device.id}") as tx:
        nonce = service.issue_nonce(tx, peer.device.id)
    return Response(render_nonce(NonceIssued(nonce.value, render_time(nonce.expires_at))), media_type=_JSON)


@device_router.post(EVIDENCE_PATH)
def appraise(db: Db, peer: Peer, body: Annotated[bytes, Depends(read_body)]) -> Response:
    """Appraise a quote and its event log; the answer is the verdict, good or bad."""
    evidence = parse_evidence(body)
    with db.write(f"device:{peer.device.id}") as tx:
        verdict = service.appraise(tx, peer.device.id, evidence)
    reasons = [{"code": reason.code, "message": reason.message} for reason in verdict.reasons]
    answer = AppraisalAnswer(verdict.good, render_time(verdict.expires_at), reasons)
    return Response(render_answer(answer), media_type=_JSON)


@router.get("/devices/{device_id}/appraisals")
def list_appraisals(
    db: Db, device_id: str, _principal: Annotated[Principal, requires("attestation.read")]
) -> list[AppraisalView]:
    with db.read() as tx:
        return [_view(one) for one in service.list_appraisals(tx, device_id)]


@router.get("/models/{model_id}/references")
def list_references(
    db: Db, model_id: str, _principal: Annotated[Principal, requires("attestation.read")]
) -> list[ReferenceView]:
    with db.read() as tx:
        found = service.list_references(tx, model_id)
    return [ReferenceView(one.model, one.kind.value, one.digest, one.version) for one in found]


@router.post("/models/{model_id}/references", status_code=201)
def add_boot_reference(
    db: Db,
    model_id: str,
    body: BootReferenceBody,
    principal: Annotated[Principal, requires("attestation.manage")],
) -> ReferenceView:
    with db.write(principal.actor) as tx:
        service.add_boot_reference(tx, body.kind, body.digest, body.version, model_id=model_id)
    return ReferenceView(model_id, body.kind.value, body.digest, body.version)


@router.get("/attestation/ek-roots")
def list_ek_roots(db: Db, _principal: Annotated[Principal, requires("attestation.read")]) -> list[AnchorView]:
    with db.read() as tx:
        found = service.list_ek_anchors(tx)
    return [AnchorView(one.subject.rfc4514_string(), render_time(one.not_valid_after_utc)) for one in found]


@router.post("/attestation/ek-roots", status_code=201)
def add_ek_roots(
    db: Db, body: AnchorBody, principal: Annotated[Principal, requires("attestation.manage")]
) -> Added:
    with db.write(principal.actor) as tx:
        return Added(service.add_ek_anchors(tx, body.pem.encode()))


def _view(one: Appraisal) -> AppraisalView:
    return AppraisalView(
        at=render_time(one.at),
        good=one.good,
        expires_at=render_time(one.expires_at),
        reasons=[ReasonView(reason.code, reason.message) for reason in one.reasons],
        firmware_version=one.firmware_version,
        reset_count=one.reset_count,
        restart_count=one.restart_count,
    )
