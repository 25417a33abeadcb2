"""Routes of attestation: devices hand in evidence, operators see verdicts and manage what is trusted."""

import time
from dataclasses import dataclass
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from fleetward.base.body import Body
from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.errors import FleetwardError, InvalidInputError
from fleetward.base.web import Db, Principal, edge_of, requires
from fleetward.features.attestation import service
from fleetward.features.attestation.context import context_of
from fleetward.features.attestation.model import Appraisal, EvidenceRefusedError, ReasonCode, Reference
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


class AnchorBody(Body):
    """TPM vendors' certificates, PEM, one after the other."""

    several_lines = frozenset({"pem"})

    pem: str


class BootReferenceBody(Body):
    """A boot stage or a pinned-keys file that devices of the model may measure, by SHA-256 in hexadecimal."""

    kind: Measured = Field(strict=False)
    digest: str
    version: str = Field(default="", max_length=64)


@dataclass(frozen=True)
class ReasonView:
    code: ReasonCode
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
    kind: Measured
    digest: str
    version: str
    withdrawn_at: str | None


@dataclass(frozen=True)
class AnchorView:
    """`fingerprint` is the certificate's SHA-256, hexadecimal."""

    fingerprint: str
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
def appraise(request: Request, db: Db, peer: Peer, body: Annotated[bytes, Depends(read_body)]) -> Response:
    """Appraise a quote and its event log; the answer is the verdict, good or bad."""
    actor = f"device:{peer.device.id}"
    try:
        evidence = parse_evidence(body)
        with db.write(actor) as tx:
            verdict = service.appraise(tx, peer.device.id, evidence)
    except (InvalidInputError, EvidenceRefusedError) as error:
        _tell(request, error, peer.device.id, time.monotonic())
        raise
    reasons = [{"code": reason.code, "message": reason.message} for reason in verdict.reasons]
    answer = AppraisalAnswer(verdict.good, render_time(verdict.expires_at), reasons)
    return Response(render_answer(answer), media_type=_JSON)


def _tell(request: Request, error: FleetwardError, device_id: str, now_s: float) -> None:
    """Tell of refused evidence. What a device sends again and again costs no transaction."""
    key = ("attestation.failed", device_id, service.reason_of(error))
    repeats = context_of(request).refusals.admit(key, now_s)
    if repeats is None:
        return
    with edge_of(request).db.write(f"device:{device_id}") as tx:
        service.record_refusal(tx, device_id, error, repeats=repeats)


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
    """What devices of a model may measure; those with model `*` hold for all models."""
    with db.read() as tx:
        return [_view_reference(one) for one in service.list_references(tx, model_id)]


@router.post("/models/{model_id}/references", status_code=201)
def add_boot_reference(
    db: Db,
    model_id: str,
    body: BootReferenceBody,
    principal: Annotated[Principal, requires("attestation.manage")],
) -> ReferenceView:
    with db.write(principal.actor) as tx:
        added = service.add_boot_reference(tx, body.kind, body.digest, body.version, model_id=model_id)
        return _view_reference(added)


@router.post("/models/{model_id}/references/{digest}/withdraw")
def withdraw_reference(
    db: Db, model_id: str, digest: str, principal: Annotated[Principal, requires("attestation.manage")]
) -> list[ReferenceView]:
    """Accept a digest no longer; model `*` for one that holds for all models. Returns what remains known."""
    with db.write(principal.actor) as tx:
        service.withdraw_digest(tx, model_id, digest)
        return [_view_reference(one) for one in service.list_references(tx, model_id)]


@router.get("/attestation/ek-roots")
def list_ek_roots(db: Db, _principal: Annotated[Principal, requires("attestation.read")]) -> list[AnchorView]:
    with db.read() as tx:
        return [_view_anchor(one) for one in service.list_ek_anchors(tx)]


@router.post("/attestation/ek-roots", status_code=201)
def add_ek_roots(
    db: Db, body: AnchorBody, principal: Annotated[Principal, requires("attestation.manage")]
) -> Added:
    with db.write(principal.actor) as tx:
        return Added(service.add_ek_anchors(tx, body.pem.encode()))


@router.post("/attestation/ek-roots/{fingerprint}/withdraw")
def withdraw_ek_root(
    db: Db, fingerprint: str, principal: Annotated[Principal, requires("attestation.manage")]
) -> list[AnchorView]:
    """Trust a vendor's certificate no longer; returns those still trusted."""
    with db.write(principal.actor) as tx:
        service.withdraw_ek_anchor(tx, fingerprint)
        return [_view_anchor(one) for one in service.list_ek_anchors(tx)]


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


def _view_reference(one: Reference) -> ReferenceView:
    withdrawn_at = render_time_or_none(one.withdrawn_at)
    return ReferenceView(one.model, one.kind, one.digest, one.version, withdrawn_at)


def _view_anchor(one: x509.Certificate) -> AnchorView:
    return AnchorView(
        fingerprint=one.fingerprint(hashes.SHA256()).hex(),
        subject=one.subject.rfc4514_string(),
        not_after=render_time(one.not_valid_after_utc),
    )
