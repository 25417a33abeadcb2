"""Operator routes of releases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from fleetward.base.body import Body
from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.db import Database
from fleetward.base.errors import NotFoundError
from fleetward.base.web import Db, Principal, requires
from fleetward.features.updates import service
from fleetward.features.updates.context import DEFAULT_MAX_IMAGE_BYTES, UpdatesContext
from fleetward.features.updates.http.upload import receive_release
from fleetward.features.updates.model import (
    APPROVALS_NEEDED,
    MAX_SBOM_BYTES,
    Approval,
    Artifact,
    Release,
    ReleaseState,
)
from fleetward.features.updates.repository.keys import MAX_ROOT_BYTES
from fleetward.wire import update_paths as paths
from fleetward.wire.manifest import render_pinned_keys

router = APIRouter(tags=["releases"])

# For the server's BodyLimit; the form itself is limited field by field.
BODY_LIMITS = {"/api/v1/releases": DEFAULT_MAX_IMAGE_BYTES + MAX_SBOM_BYTES + 1024 * 1024}

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["model", "version", "sbom", "image"],
                    "properties": {
                        "model": {"type": "string"},
                        "version": {"type": "string"},
                        "security_counter": {"type": "integer"},
                        "sbom": {"type": "string", "format": "binary", "description": "CycloneDX JSON"},
                        "image": {"type": "string", "format": "binary"},
                    },
                }
            }
        },
    }
}


class WithdrawBody(Body):
    reason: str = Field(default="by an operator", min_length=1, max_length=200)


class RejectBody(Body):
    reason: str = Field(min_length=1, max_length=200)


@dataclass(frozen=True)
class ApprovalView:
    operator: str
    at: str


@dataclass(frozen=True)
class ReleaseView:
    """A release, as operators see it. `approvals_needed` is 0 for one that was published before set-up."""

    model: str
    version: str
    state: ReleaseState
    security_counter: int
    sha256: str
    length: int
    sbom_sha256: str
    author: str
    created_at: str
    published_at: str | None
    withdrawn_at: str | None
    withdrawn_reason: str
    approvals: list[ApprovalView]
    approvals_needed: int
    rejected_at: str | None
    rejected_by: str | None
    rejected_reason: str | None


@dataclass(frozen=True)
class TrustView:
    """What a device pins at provisioning, as the texts of the files: not a byte may change."""

    tuf_root: str
    firmware_keys: str


@router.post("/releases", status_code=201, openapi_extra=_FORM)
async def publish(
    request: Request, db: Db, principal: Annotated[Principal, requires("release.publish")]
) -> ReleaseView:
    context = _context(request)
    async with receive_release(request, context) as new:
        release = await run_in_threadpool(service.publish, db, context, principal.actor, new)
    return await run_in_threadpool(_view, db, release)


@router.get("/releases")
def list_releases(
    db: Db, _principal: Annotated[Principal, requires("release.read")], model: str | None = None
) -> list[ReleaseView]:
    with db.read() as tx:
        approvals = service.list_approvals(tx)
        return [
            view_release(one, service.list_counted(tx, one, approvals.get(one.id, [])))
            for one in service.list_releases(tx, model=model)
        ]


@router.get("/releases/{model}/{version}")
def get_release(
    db: Db, model: str, version: str, _principal: Annotated[Principal, requires("release.read")]
) -> ReleaseView:
    with db.read() as tx:
        release = service.get_release(tx, model, version)
    return _view(db, release)


@router.post("/releases/{model}/{version}/approve")
def approve(
    request: Request,
    db: Db,
    model: str,
    version: str,
    principal: Annotated[Principal, requires("release.approve")],
) -> ReleaseView:
    """Approve another's release; the second approval signs it and offers it to devices."""
    return _view(db, service.approve(db, _context(request), principal.operator, model, version))


@router.post("/releases/{model}/{version}/reject")
def reject(
    db: Db,
    model: str,
    version: str,
    body: RejectBody,
    principal: Annotated[Principal, requires("release.approve")],
) -> ReleaseView:
    """Refuse a pending release for good."""
    return _view(db, service.reject(db, principal.actor, model, version, body.reason))


@router.post("/releases/{model}/{version}/withdraw")
def withdraw(
    request: Request,
    db: Db,
    model: str,
    version: str,
    body: WithdrawBody,
    principal: Annotated[Principal, requires("release.withdraw")],
) -> ReleaseView:
    return _view(db, service.withdraw(db, _context(request), principal.actor, model, version, body.reason))


@router.get("/releases/{model}/{version}/manifest", response_class=Response)
def get_manifest(
    db: Db, model: str, version: str, _principal: Annotated[Principal, requires("release.read")]
) -> Response:
    """Return the signed envelope, byte for byte as devices keep it."""
    with db.read() as tx:
        release = service.get_release(tx, model, version)
    if not release.is_signed:
        raise NotFoundError(
            f"manifest of {version} of {model}: expected it signed, found the release {release.state}"
        )
    return Response(release.manifest, media_type="application/vnd.dsse+json")


@router.get("/releases/{model}/{version}/image", response_class=StreamingResponse)
def get_image(
    request: Request,
    db: Db,
    model: str,
    version: str,
    _principal: Annotated[Principal, requires("release.read")],
) -> StreamingResponse:
    """Return the firmware itself, e.g. to install it at the factory."""
    with db.read() as tx:
        release = service.get_release(tx, model, version)
    return _download(request, paths.image(model, version), release.image, "application/octet-stream")


@router.get("/releases/{model}/{version}/sbom", response_class=StreamingResponse)
def get_sbom(
    request: Request,
    db: Db,
    model: str,
    version: str,
    _principal: Annotated[Principal, requires("release.read")],
) -> StreamingResponse:
    """Return the CycloneDX document published with a release."""
    with db.read() as tx:
        release = service.get_release(tx, model, version)
    return _download(request, paths.sbom(model, version), release.sbom, "application/vnd.cyclonedx+json")


@router.get("/trust/updates")
def get_trust(request: Request, _principal: Annotated[Principal, requires("release.read")]) -> TrustView:
    """Return what provisioning writes into a device: the first TUF root and the firmware keys."""
    context = _context(request)
    return TrustView(
        context.blobs.get(paths.root_blob(1), max_bytes=MAX_ROOT_BYTES).decode(),
        render_pinned_keys([context.firmware_key.public_key()]).decode(),
    )


def view_release(release: Release, approvals: Sequence[Approval]) -> ReleaseView:
    """Return the public form of a release."""
    was_judged = bool(approvals) or release.state in (ReleaseState.PENDING, ReleaseState.REJECTED)
    return ReleaseView(
        model=release.model,
        version=release.version,
        state=release.state,
        security_counter=release.security_counter,
        sha256=release.image.sha256,
        length=release.image.length,
        sbom_sha256=release.sbom.sha256,
        author=release.author,
        created_at=render_time(release.created_at),
        published_at=render_time_or_none(release.published_at),
        withdrawn_at=render_time_or_none(release.withdrawn_at),
        withdrawn_reason=release.withdrawn_reason,
        approvals=[ApprovalView(one.operator, render_time(one.at)) for one in approvals],
        approvals_needed=APPROVALS_NEEDED if was_judged else 0,
        rejected_at=render_time_or_none(release.rejected_at),
        rejected_by=release.rejected_by,
        rejected_reason=release.rejected_reason,
    )


def _view(db: Database, release: Release) -> ReleaseView:
    with db.read() as tx:
        given = service.list_approvals(tx).get(release.id, [])
        return view_release(release, service.list_counted(tx, release, given))


def _download(request: Request, target: str, artifact: Artifact, media_type: str) -> StreamingResponse:
    model = target.split("/", maxsplit=1)[0]
    name, _ = paths.target_blob(model, paths.consistent_name(target, artifact.sha256))
    blobs = _context(request).blobs
    if blobs.find(name) is None:
        raise NotFoundError(f"{target}: expected it stored, found its publication unfinished")
    chunks = blobs.read(name, start=0, length=artifact.length)
    headers = {"Content-Length": str(artifact.length), "ETag": f'"{artifact.sha256}"'}
    return StreamingResponse(chunks, media_type=media_type, headers=headers)


def _context(request: Request) -> UpdatesContext:
    context: UpdatesContext = request.app.state.updates
    return context
