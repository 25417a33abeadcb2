"""The operators' routes of messaging: over doubles of what needs NATS, the live stream over a real one."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from fleetward.base.clock import render_time
from fleetward.base.db import Database
from fleetward.base.errors import ForbiddenError
from fleetward.base.web import Edge, Principal, add_error_handlers
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, Model
from fleetward.features.messaging import service
from fleetward.features.messaging.http import MessagingContext, router, watch
from fleetward.features.messaging.model import GATES, Presence
from fleetward.features.messaging.ports import WatchItem
from fleetward.wire.telemetry import Record
from support.asgi import AsgiClient
from support.broker import Rig, wait_for

TIME = "2026-06-01T12:00:00.000Z"


class Archive:
    """Answers from memory, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, int]] = []

    def read_last(self, device: str, kind: str, stream: str, limit: int) -> list[Record]:
        self.asked.append((device, kind, stream, limit))
        return [Record(device, kind, stream, TIME, None, 21)]

    def find_presence(self, device: str) -> Presence | None:
        return None if device == "new-1" else Presence(device, is_connected=True, since=TIME, address="::1")

    async def watch(self, device: str) -> AsyncIterator[WatchItem]:
        yield WatchItem("telemetry", device, TIME, "temp", 21)


class Roles:
    """Lets in whoever names the permission the route asks for."""

    def authorize(self, request: Request, permission: str) -> Principal:
        if request.headers.get("may") != permission:
            raise ForbiddenError(f"permission: expected {permission}")
        return Principal("operator:test")


def make_app(db: Database, archive: Any) -> FastAPI:
    app = FastAPI()
    add_error_handlers(app)
    app.state.edge = Edge(db, Roles())
    app.state.messaging = MessagingContext(archive, archive, archive)
    app.include_router(router, prefix="/api/v1")
    return app


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def client(db: Database, archive: Archive) -> AsgiClient:
    with db.write("operator:test") as tx:
        devices.add_model(tx, Model("sensor", attestation=AttestationPolicy.NONE))
        for device in ("cam-1", "new-1"):
            devices.register(tx, device, "sensor")
    return AsgiClient(make_app(db, archive))


ROUTES = [
    ("GET", "/devices/cam-1/telemetry", "telemetry.read"),
    ("GET", "/devices/cam-1/watch", "telemetry.read"),
    ("GET", "/devices/cam-1/presence", "device.read"),
    ("GET", "/devices/cam-1/session", "device.read"),
    ("GET", "/devices/cam-1/shadow", "shadow.read"),
    ("PUT", "/devices/cam-1/shadow/desired", "shadow.write"),
    ("GET", "/devices/cam-1/commands", "command.read"),
    ("POST", "/devices/cam-1/commands", "command.run"),
]
BODIES: dict[str, dict[str, Any]] = {"PUT": {"state": {}}, "POST": {"name": "ping"}}


def ask(client: AsgiClient, method: str, path: str, may: str, **more: Any) -> httpx.Response:
    return client.request(method, f"/api/v1{path}", headers={"may": may}, **more)


@pytest.mark.parametrize(("method", "path", "permission"), ROUTES)
def test_every_route_asks_for_its_permission(
    client: AsgiClient, method: str, path: str, permission: str
) -> None:
    body = {"json": BODIES[method]} if method in BODIES else {}
    assert ask(client, method, path, "device.add", **body).status_code == 403
    assert ask(client, method, path, permission, **body).status_code in (200, 201)


@pytest.mark.parametrize(("method", "path", "permission"), ROUTES)
def test_an_unknown_device_is_not_there(client: AsgiClient, method: str, path: str, permission: str) -> None:
    body = {"json": BODIES[method]} if method in BODIES else {}
    answer = ask(client, method, path.replace("cam-1", "ghost-1"), permission, **body)
    assert answer.status_code == 404


def test_telemetry_is_read_from_the_log(client: AsgiClient, archive: Archive) -> None:
    answer = ask(client, "GET", "/devices/cam-1/telemetry?stream=temp&limit=5", "telemetry.read")
    assert answer.json()["records"] == [
        {"time": TIME, "device_time": None, "kind": "telemetry", "stream": "temp", "value": 21}
    ]
    assert archive.asked == [("cam-1", "telemetry", "temp", 5)]


@pytest.mark.parametrize("query", ["limit=0", "limit=9999", "stream=a.b", "stream=*", "kind=secrets"])
def test_a_bad_query_is_refused(client: AsgiClient, query: str) -> None:
    assert ask(client, "GET", f"/devices/cam-1/telemetry?{query}", "telemetry.read").status_code == 400


def test_presence_of_a_device_that_never_came_is_told(client: AsgiClient) -> None:
    assert ask(client, "GET", "/devices/new-1/presence", "device.read").json() == {
        "device": "new-1", "connected": False, "since": None, "address": None, "reason": None,
    }  # fmt: skip
    assert ask(client, "GET", "/devices/cam-1/presence", "device.read").json()["connected"] is True


def test_every_gate_says_what_it_found_open_or_closed(client: AsgiClient, db: Database) -> None:
    with db.write("system:segmentation") as tx:
        service.set_hold(tx, "cam-1", "segmentation", "It spoke to a stranger")
        since = render_time(tx.now)
    found = ask(client, "GET", "/devices/cam-1/session", "device.read").json()
    assert (found["may_connect"], found["code"], found["closes_at"]) == (False, "certificate_expired", None)
    assert found["holds"] == [{"name": "segmentation", "reason": "It spoke to a stranger", "since": since}]
    gates = {one.pop("gate"): one for one in found["gates"]}
    assert [gate.name for gate in GATES] == list(gates)
    assert {name for name, gate in gates.items() if gate["is_open"]} == {"certificate", "appraisal"}
    assert gates["life"] == {
        "title": "Life allows it", "is_open": False, "code": "device_not_active", "closes_at": None,
        "finding": "Device cam-1 is registered, not active.",
        "fix": "Give it a fresh claim, or let it enroll with the chip it was shipped with.",
        "command": "fleetward device claim cam-1",
    }  # fmt: skip
    assert gates["appraisal"] == {
        "title": "Appraisal good and fresh", "is_open": True, "code": None, "closes_at": None,
        "finding": "Its model asks for none.", "fix": None, "command": None,
    }  # fmt: skip
    assert gates["holds"]["code"] == "held"


def test_a_command_is_queued_and_found(client: AsgiClient) -> None:
    body = {"name": "ping", "args": {"n": 1}, "timeout_s": 5}
    queued = ask(client, "POST", "/devices/cam-1/commands", "command.run", json=body)
    assert queued.status_code == 201
    path = f"/devices/cam-1/commands/{queued.json()['id']}"
    found = ask(client, "GET", path, "command.read").json()
    assert (found["state"], found["args"], found["actor"]) == ("queued", {"n": 1}, "operator:test")
    assert ask(client, "GET", path.replace("cam-1", "new-1"), "command.read").status_code == 404


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "Rm"}, {"name": "ping", "timeout_s": 0}, {"name": "ping", "args": []},
     {"name": "ping", "more": 1}, {"name": "ping", "args": {"x": "y" * 20_000}}],
)  # fmt: skip
def test_a_bad_command_is_refused(client: AsgiClient, body: dict[str, Any]) -> None:
    assert ask(client, "POST", "/devices/cam-1/commands", "command.run", json=body).status_code in (400, 413)


def test_desired_state_is_guarded_by_its_version(client: AsgiClient) -> None:
    path = "/devices/cam-1/shadow/desired"
    first = ask(client, "PUT", path, "shadow.write", json={"state": {"rate": 5}, "expected_version": 0})
    assert first.json()["delta"] == {"rate": 5}
    late = ask(client, "PUT", path, "shadow.write", json={"state": {}, "expected_version": 0})
    assert late.status_code == 409
    assert ask(client, "GET", "/devices/cam-1/shadow", "shadow.read").json()["desired_version"] == 1


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.start()
    yield rig
    rig.close()


def test_watching_streams_what_a_device_does(rig: Rig) -> None:
    """The route runs on another event loop than NATS, as any process may."""
    device = rig.enroll("cam-1")
    app = make_app(rig.db, rig.messaging.archive)
    scope = {"type": "http", "app": app, "headers": [], "method": "GET", "path": "/", "query_string": b""}

    async def read_until_telemetry() -> dict[str, Any]:
        response = watch(Request(scope), rig.db, "cam-1", Principal("operator:test"))
        stream = aiter(response.body_iterator)
        assert "watching" in str(await anext(stream))
        publishing = asyncio.create_task(asyncio.to_thread(publish_until_seen))
        async for chunk in stream:
            assert isinstance(chunk, bytes)
            found: dict[str, Any] = json.loads(chunk.removeprefix(b"data: "))
            if found["kind"] == "telemetry":
                seen.append(found)
                break
        await publishing
        return seen[0]

    seen: list[dict[str, Any]] = []

    def publish_until_seen() -> None:
        wait_for(lambda: rig.publish(device, "d/cam-1/t/temp", "21").returncode == 0 and seen)

    found = asyncio.run(read_until_telemetry())
    assert (found["device"], found["stream"], found["value"]) == ("cam-1", "temp", 21)
