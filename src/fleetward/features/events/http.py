"""Operator routes of the event feed: a page, or a live stream of server-sent events."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from fleetward.base.clock import parse_time
from fleetward.base.events import find_last_event_id
from fleetward.base.sse import LiveStream, Reader
from fleetward.base.web import Db, Principal, answers_with, requires
from fleetward.features.events.service import read_page
from fleetward.features.events.tail import Tail

router = APIRouter(tags=["events"])
_MAX_PAGE = 5000
# What the database's integers hold.
_MAX_ID_DIGITS = 18


@dataclass(frozen=True)
class EventView:
    time: str
    kind: str
    device: str | None
    severity: str
    message: str
    details: dict[str, Any]
    actor: str
    id: int


@dataclass(frozen=True)
class EventPage:
    """A page; `next_after` begins the next one, null where there is none now.

    A page of a reader of some groups may hold fewer than `limit` events, or none, and yet have a next one.
    """

    events: list[EventView]
    next_after: int | None


@router.get("/events")
def list_page(
    db: Db,
    principal: Annotated[Principal, requires("event.read")],
    device: str | None = None,
    since: str | None = None,
    after: int = 0,
    limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 1000,
) -> EventPage:
    since_at = parse_time(since) if since else None
    with db.read() as tx:
        page = read_page(tx, after=after, limit=limit, device=device, since=since_at, groups=principal.groups)
    views = [EventView(**event.as_json()) for event in page.events]
    return EventPage(views, None if page.is_last else page.cursor)


@router.get("/events/stream", response_class=StreamingResponse, responses=answers_with("text/event-stream"))
def stream(
    request: Request,
    db: Db,
    principal: Annotated[Principal, requires("event.read")],
    device: str | None = None,
    after: int = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Stream events with an id over `after` as they happen, one JSON object each, as server-sent events.

    `after=-1` begins with what happens next. A browser that lost the line names the last event it has in
    `Last-Event-ID`, and misses none.
    """
    if last_event_id is not None and last_event_id.isdecimal():
        after = int(last_event_id[:_MAX_ID_DIGITS])
    elif after < 0:
        with db.read() as tx:
            after = find_last_event_id(tx)
    tail: Tail = request.app.state.events
    reader = Reader(principal, after)
    return LiveStream(request, "event.read", reader, lambda: tail.follow(reader, device))
