"""Routes for devices: the TUF metadata and artifacts of their own model, over mutual TLS."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from fleetward.base.errors import NotFoundError
from fleetward.features.devices.peer import DevicePeer, Peer
from fleetward.features.updates.context import UpdatesContext
from fleetward.features.updates.http.ranges import parse_range
from fleetward.features.updates.ports import BlobMissingError
from fleetward.features.updates.repository.rendering import MAX_METADATA_BYTES, measure
from fleetward.wire import update_paths as paths

device_router = APIRouter(prefix=paths.PREFIX, tags=["device updates"])

_IMMUTABLE = "private, max-age=31536000, immutable"


@device_router.get("/{model}/metadata/{name}", response_class=Response)
def get_metadata(
    request: Request,
    model: str,
    name: str,
    peer: Peer,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return one TUF metadata file of the device's model."""
    _check_model(peer, model)
    try:
        content = _context(request).blobs.get(paths.metadata_blob(model, name), max_bytes=MAX_METADATA_BYTES)
    except BlobMissingError as error:
        raise NotFoundError(f"update metadata {name}: expected it published, found none") from error
    headers = {
        "ETag": f'"{measure(content).sha256}"',
        "Cache-Control": "no-cache" if name == "timestamp.json" else _IMMUTABLE,
    }
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)


@device_router.api_route("/{model}/targets/{name:path}", methods=["GET", "HEAD"], response_class=Response)
def get_target(
    request: Request,
    model: str,
    name: str,
    peer: Peer,
    range_: Annotated[str | None, Header(alias="range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return an artifact of the device's model, or the one range of it that is asked for."""
    _check_model(peer, model)
    blob, sha256 = paths.target_blob(model, name)
    blobs = _context(request).blobs
    found = blobs.find(blob)
    if found is None:
        raise NotFoundError(f"update artifact {name[:80]!r}: expected it published, found none")
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": _IMMUTABLE}
    if if_none_match == etag:
        return Response(status_code=304, headers=headers)
    span = parse_range(range_, total=found.length, etag=etag, if_range=if_range)
    if span is None:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{found.length}"})
    headers["Content-Length"] = str(span.length)
    if span.is_partial:
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.length - 1}/{found.length}"
    status = 206 if span.is_partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    chunks = blobs.read(blob, start=span.start, length=span.length)
    return StreamingResponse(chunks, status, headers, "application/octet-stream")


def _check_model(peer: DevicePeer, model: str) -> None:
    """Tell a device of another model that there is nothing here."""
    if peer.device.model != model:
        raise NotFoundError(
            f"updates of model {model[:80]!r}: expected the device's own model, found another"
        )


def _context(request: Request) -> UpdatesContext:
    context: UpdatesContext = request.app.state.updates
    return context
