"""Operator routes of the event feed: a page, or a live stream of server-sent events."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from fleetward.base.clock import parse_time
from fleetward.base.db import Database
from fleetward.base.errors import FleetwardError
from fleetward.base.events import find_last_event_id
from fleetward.base.web import READMIT_EVERY_S, Db, Principal, answers_with, readmit, requires
from fleetward.features.events.service import Page, read_page

router = APIRouter(tags=["events"])
_MAX_PAGE = 5000
_PAGE = 1000
_POLL_S = 0.25
_KEEPALIVE_S = 15.0
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
    return StreamingResponse(
        _follow(request, db, principal, device, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _follow(
    request: Request, db: Database, principal: Principal, device: str | None, after: int
) -> AsyncIterator[bytes]:
    spoke_at = admitted_at = time.monotonic()
    while True:
        if time.monotonic() - admitted_at > READMIT_EVERY_S:
            try:
                principal = await readmit(request, "event.read")
            except FleetwardError:
                return
            admitted_at = time.monotonic()
        page = await run_in_threadpool(_read_after, db, device, principal.groups, after)
        after = page.cursor
        for event in page.events:
            yield f"id: {event.id}\ndata: {json.dumps(event.as_json())}\n\n".encode()
        if not page.is_last:
            continue
        if page.events:
            spoke_at = time.monotonic()
        elif time.monotonic() - spoke_at > _KEEPALIVE_S:
            spoke_at = time.monotonic()
            yield b": still here\n\n"
        else:
            await asyncio.sleep(_POLL_S)


def _read_after(db: Database, device: str | None, groups: frozenset[str] | None, after: int) -> Page:
    with db.read() as tx:
        return read_page(tx, after=after, limit=_PAGE, device=device, groups=groups)
