"""Live streams: one reader of the feed for all, nobody slowed by somebody slow, nothing missed."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI, Request

from fleetward.base import sse
from fleetward.base.db import Database
from fleetward.base.errors import ForbiddenError
from fleetward.base.events import emit, find_last_event_id
from fleetward.base.sse import Reader
from fleetward.base.web import MAX_STREAMS, Edge, Principal, add_error_handlers
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, Model
from fleetward.features.events.http import router
from fleetward.features.events.tail import MAX_UNREAD, Tail

CAMS = Principal("operator:vic", groups=frozenset({"cams"}))
ALL = Principal("operator:ada")


@pytest.fixture
def fleet(db: Database) -> Database:
    with db.write("operator:test") as tx:
        devices.add_model(tx, Model("cam", attestation=AttestationPolicy.NONE))
        devices.register(tx, "cam-1", "cam", group="cams")
        devices.register(tx, "door-1", "cam", group="doors")
    return db


def tell(db: Database, *texts: str, device: str | None = None) -> None:
    with db.write("operator:test") as tx:
        for text in texts:
            emit(tx, "test.happened", text, device=device)


def last_id(db: Database) -> int:
    with db.read() as tx:
        return find_last_event_id(tx)


def message_of(frame: bytes) -> str:
    number, content = frame.decode().strip().split("\n")
    event = json.loads(content.removeprefix("data: "))
    assert number == f"id: {event['id']}"
    return str(event["message"])


async def take(stream: AsyncGenerator[bytes, None], count: int) -> list[str]:
    async with asyncio.timeout(60):
        return [message_of(await anext(stream)) for _ in range(count)]


async def until_waiting(reader: Reader, number: int) -> None:
    async with asyncio.timeout(60):
        while reader.cursor != number:  # noqa: ASYNC110 - a reader tells nobody
            await asyncio.sleep(0.01)


async def end(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait({task})


def test_streams_that_begin_anywhere_see_each_event_once_while_others_are_told(fleet: Database) -> None:
    before = [f"b-{number}" for number in range(5)]
    start = last_id(fleet)
    tell(fleet, *before)

    async def read() -> list[list[str]]:
        tail = Tail(fleet)
        readers = [Reader(ALL, start + skipped) for skipped in range(5)]
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(aclosing(tail.follow(reader, None))) for reader in readers
            ]
            wanted = [5 - skipped + 40 for skipped in range(5)]
            reading = [asyncio.create_task(take(*one)) for one in zip(streams, wanted, strict=True)]
            for number in range(20):
                await asyncio.to_thread(tell, fleet, f"{number}-x", f"{number}-y")
            return list(await asyncio.gather(*reading))

    during = [f"{number}-{part}" for number in range(20) for part in "xy"]
    assert asyncio.run(read()) == [before[skipped:] + during for skipped in range(5)]


def test_a_reader_too_slow_for_its_queue_misses_nothing_and_slows_nobody(fleet: Database) -> None:
    flood = [f"n-{number}" for number in range(MAX_UNREAD + 300)]

    async def read() -> tuple[list[str], list[str], int]:
        tail = Tail(fleet)
        start = last_id(fleet)
        async with (
            aclosing(tail.follow(Reader(ALL, start), None)) as quick,
            aclosing(tail.follow(Reader(ALL, start), None)) as slow,
        ):
            await asyncio.to_thread(tell, fleet, "first")
            assert await take(slow, 1) == ["first"] == await take(quick, 1)
            fast = asyncio.create_task(take(quick, len(flood)))
            for begin in range(0, len(flood), 100):
                await asyncio.to_thread(tell, fleet, *flood[begin : begin + 100])
            seen = await fast  # the slow one has not read a single one
            held = max(len(one.queue) for one in tail._streams)
            return seen, await take(slow, len(flood)), held

    quick, slow, held = asyncio.run(read())
    assert quick == flood
    assert slow == flood
    assert held <= MAX_UNREAD


def test_each_reader_sees_what_is_theirs_and_passes_the_rest(fleet: Database) -> None:
    async def read() -> tuple[list[str], list[str]]:
        tail = Tail(fleet)
        of_cams, of_door = Reader(CAMS, last_id(fleet)), Reader(ALL, last_id(fleet))
        async with (
            aclosing(tail.follow(of_cams, None)) as cams,
            aclosing(tail.follow(of_door, "door-1")) as door,
        ):
            reading = [asyncio.create_task(take(cams, 2)), asyncio.create_task(take(door, 1))]
            await asyncio.to_thread(tell, fleet, "cam", device="cam-1")
            await asyncio.to_thread(tell, fleet, "nobody's")
            await asyncio.to_thread(tell, fleet, "door", device="door-1")
            await until_waiting(of_cams, last_id(fleet))
            await asyncio.to_thread(move, fleet, "door-1", "cams")
            await asyncio.to_thread(tell, fleet, "door of cams", device="door-1")
            found = await asyncio.gather(*reading)
            coming = asyncio.create_task(take(cams, 1))
            await asyncio.to_thread(tell, fleet, "nobody's either")
            await until_waiting(of_cams, last_id(fleet))  # where a new line would begin
            await end(coming)
            return found[0], found[1]

    cams, door = asyncio.run(read())
    assert cams == ["cam", "door of cams"]
    assert door == ["door"]


def test_a_stream_that_begins_beside_another_takes_nothing_from_it(
    fleet: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are the first: the slower one learns where the feed ends from an event that the other awaits."""
    tail = Tail(fleet)
    read_last_id, read_new = tail._read_last_id, tail._read_new
    asked: list[int] = []
    may_answer, may_read = threading.Event(), threading.Event()

    def slow_last_id() -> int:
        asked.append(1)
        if len(asked) > 1:
            assert may_answer.wait(60)
        return read_last_id()

    def slow_new() -> Any:
        assert may_read.wait(60)
        return read_new()

    monkeypatch.setattr(tail, "_read_last_id", slow_last_id)
    monkeypatch.setattr(tail, "_read_new", slow_new)

    async def read() -> list[str]:
        start = last_id(fleet)
        first, second = Reader(ALL, start), Reader(ALL, start)
        async with aclosing(tail.follow(first, None)) as one, aclosing(tail.follow(second, None)) as other:
            reading = [asyncio.create_task(take(one, 1)), asyncio.create_task(take(other, 1))]
            async with asyncio.timeout(60):
                while len(asked) < 2 or not tail._streams:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(tell, fleet, "event")
            may_answer.set()
            async with asyncio.timeout(60):
                while len(tail._streams) < 2:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
            may_read.set()
            return [text for found in await asyncio.gather(*reading) for text in found]

    assert asyncio.run(read()) == ["event", "event"]


def move(db: Database, device: str, group: str) -> None:
    with db.write("operator:test") as tx:
        change = sa.text('UPDATE devices SET "group" = :group WHERE id = :device')
        tx.conn.execute(change, {"device": device, "group": group})


def test_what_the_streams_cost_at_rest_does_not_grow_with_their_number(fleet: Database) -> None:
    statements = 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1

    async def rest() -> int:
        tail = Tail(fleet)
        readers = [Reader(ALL, last_id(fleet)) for _ in range(30)]
        async with AsyncExitStack() as stack:
            for reader in readers:
                stream = await stack.enter_async_context(aclosing(tail.follow(reader, None)))
                stack.push_async_callback(end, asyncio.create_task(take(stream, 1)))
            for reader in readers:
                await until_waiting(reader, last_id(fleet))
            await asyncio.sleep(0.2)
            sa.event.listen(fleet.engine, "before_cursor_execute", count)
            await asyncio.sleep(1)
            sa.event.remove(fleet.engine, "before_cursor_execute", count)
            return statements

    assert asyncio.run(rest()) < 30


def test_nothing_is_read_once_nobody_listens(fleet: Database) -> None:
    async def listen() -> bool:
        tail = Tail(fleet)
        async with aclosing(tail.follow(Reader(ALL, 0), None)) as stream:
            await take(stream, 1)
            task = tail._task
            assert task is not None
        await asyncio.wait({task}, timeout=60)
        return task.done()

    assert asyncio.run(listen())


class Roles:
    """Lets everybody in until `is_closed`."""

    is_closed = False

    def authorize(self, _request: Request, _permission: str) -> Principal:
        if self.is_closed:
            raise ForbiddenError("event.read: expected a role, found none")
        return ALL


@pytest.fixture
def roles() -> Roles:
    return Roles()


@pytest.fixture
def app(fleet: Database, roles: Roles) -> FastAPI:
    app = FastAPI()
    add_error_handlers(app)
    app.state.edge = Edge(fleet, roles)
    app.state.events = Tail(fleet)
    app.include_router(router)
    return app


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "READMIT_EVERY_S", 0.05)
    monkeypatch.setattr(sse, "KEEPALIVE_S", 0.05)


class Line:
    """A client of the stream that reads chunk by chunk."""

    def __init__(self, app: FastAPI, *, last_event_id: int | None = None) -> None:
        headers = [] if last_event_id is None else [(b"last-event-id", str(last_event_id).encode())]
        self._app = app
        self._scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
            "path": "/events/stream", "raw_path": b"/events/stream", "query_string": b"after=-1",
            "scheme": "https", "headers": headers,
            "client": ("127.0.0.1", 1), "server": ("localhost", 443), "root_path": "",
        }  # fmt: skip
        self.status = 0
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._gone = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def hang_up(self) -> None:
        self._gone.set()
        await asyncio.wait_for(self.task, 60)

    async def opened(self) -> int:
        async with asyncio.timeout(60):
            while not self.status:  # noqa: ASYNC110 - an application tells nobody
                await asyncio.sleep(0.01)
        return self.status

    async def _run(self) -> None:
        async def receive() -> dict[str, Any]:
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            elif message.get("body"):
                await self.chunks.put(message["body"])

        await self._app(self._scope, receive, send)


@pytest.mark.usefixtures("_hurried")
def test_a_silent_stream_says_that_it_is_there_and_where_a_new_line_begins(
    app: FastAPI, fleet: Database
) -> None:
    async def listen() -> bytes:
        line = Line(app)
        chunk = await asyncio.wait_for(line.chunks.get(), 60)
        await line.hang_up()
        return chunk

    assert asyncio.run(listen()) == f": still here\nid: {last_id(fleet)}\n\n".encode()


@pytest.mark.usefixtures("_hurried")
def test_a_stream_ends_when_its_reader_may_no_longer_read(app: FastAPI, roles: Roles) -> None:
    async def listen() -> None:
        line = Line(app)
        await line.opened()
        roles.is_closed = True
        await asyncio.wait_for(line.task, 60)

    asyncio.run(listen())


def test_who_lost_the_line_goes_on_after_the_last_event_they_have(app: FastAPI, fleet: Database) -> None:
    tell(fleet, "seen")
    seen = last_id(fleet)
    tell(fleet, "missed", "missed too")

    async def listen() -> list[str]:
        line = Line(app, last_event_id=seen)
        found = [message_of(await asyncio.wait_for(line.chunks.get(), 60)) for _ in range(2)]
        await line.hang_up()
        return found

    assert asyncio.run(listen()) == ["missed", "missed too"]


def test_nobody_holds_more_streams_than_one_may(app: FastAPI) -> None:
    async def listen() -> tuple[httpx.Response, int, int]:
        lines = [Line(app) for _ in range(MAX_STREAMS)]
        for line in lines:
            assert await line.opened() == 200
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://localhost") as one:
            refused = await one.get("/events/stream")
        await lines[0].hang_up()
        again = Line(app)
        status = await again.opened()
        for line in [*lines[1:], again]:
            await line.hang_up()
        tail: Tail = app.state.events
        return refused, status, len(tail._streams)

    refused, status, left = asyncio.run(listen())
    assert refused.status_code == 429
    assert "live streams of operator:ada: expected at most 50 at once" in refused.json()["detail"]
    assert refused.headers["Retry-After"]
    assert status == 200
    assert left == 0
