"""Operator routes of live video, and the page that plays it."""

from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Request, Response, WebSocket

from fleetward.base.clock import render_time
from fleetward.base.errors import NotFoundError
from fleetward.base.ids import parse_device_id
from fleetward.base.web import Db, Principal, requires
from fleetward.features.media import relay, service
from fleetward.features.media.relay import MediaContext

router = APIRouter(tags=["media"])
page_router = APIRouter(include_in_schema=False)
device_router = APIRouter()

VIEW_PATH = "/api/v1/media/view"
_TYPES = {"watch.html": "text/html; charset=utf-8", "watch.js": "text/javascript", "watch.css": "text/css"}


@dataclass(frozen=True)
class ViewGrant:
    """A view and its ticket, which opens it once within 30 s. `url` holds the ticket in its fragment."""

    id: str
    device: str
    ticket: str
    url: str
    ticket_expires_at: str
    expires_at: str


@router.post("/devices/{device_id}/views", status_code=201)
def open_view(
    request: Request, db: Db, device_id: str, principal: Annotated[Principal, requires("video.view")]
) -> ViewGrant:
    with db.write(principal.actor) as tx:
        view, ticket = service.open_view(tx, device_id, longest=_longest(request))
    return ViewGrant(
        id=view.id,
        device=device_id,
        ticket=ticket,
        url=f"{_own_origin(request)}/watch/{device_id}#{ticket}",
        ticket_expires_at=render_time(view.ticket_expires_at),
        expires_at=render_time(view.expires_at),
    )


@router.delete("/views/{view_id}", status_code=204)
def close_view(db: Db, view_id: str, principal: Annotated[Principal, requires("video.view")]) -> None:
    with db.write(principal.actor) as tx:
        service.check_visible(tx, view_id, principal.covers)
        service.close_view(tx, view_id, "closed by an operator")


@page_router.get("/watch/{device_id}")
def watch_page(device_id: str) -> Response:
    """The page is the same for every device; without a ticket it shows nothing."""
    parse_device_id(device_id)
    return _file("watch.html")


@page_router.get("/static/media/{name}")
def static_file(name: str) -> Response:
    if name not in _TYPES:
        raise NotFoundError(f"page {name[:40]}: expected one of ours, found none")
    return _file(name)


@page_router.websocket(VIEW_PATH)
async def view(socket: WebSocket) -> None:
    """Play one view: the client sends its ticket first, then receives the description and the video."""
    await relay.play(socket, socket.app.state.media)


@device_router.websocket("/v1/media/ingest")
async def ingest(socket: WebSocket) -> None:
    """A camera's line: it waits for orders and sends video while someone watches."""
    await relay.receive(socket, socket.app.state.media)


def _own_origin(request: Request) -> str:
    """Return where the caller found us, if by a name of ours; else our first: a `Host` is anybody's word."""
    context: MediaContext = request.app.state.media
    asked = f"https://{request.headers.get('host', '')}"
    return asked if asked in context.origins else context.console


def _longest(request: Request) -> timedelta:
    context: MediaContext = request.app.state.media
    return context.longest_view


def _file(name: str) -> Response:
    content = files("fleetward.features.media").joinpath("page", name).read_bytes()
    return Response(content, media_type=_TYPES[name], headers={"Cache-Control": "no-cache"})
