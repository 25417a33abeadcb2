"""The real console application over a data folder of its own, and people of every role who ask it.

What needs NATS is played from memory; everything else is what `fleetward up` runs.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.types import Message

from fleetward.base.config import Ports, ServerConfig
from fleetward.base.layout import DataFolder
from fleetward.features.access.context import AccessContext, Client
from fleetward.features.access.model.roles import Role
from fleetward.features.access.model.secrets import csrf_token
from fleetward.features.access.service import sessions, tokens
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, KeyTier, Model
from fleetward.features.media.ports import MediaBus
from fleetward.features.messaging.http import MessagingContext
from fleetward.features.messaging.model import Presence
from fleetward.features.messaging.ports import WatchItem
from fleetward.migrations.runner import migrate
from fleetward.programs.server.build import Rooms, build_console_app, build_rooms, media_context
from fleetward.programs.server.initialise import initialise
from fleetward.wire.telemetry import Record
from support.clock import ManualClock
from support.people import add_operator

ORIGIN = "https://localhost:8443"
MODEL = "camera"
CONFIG = ServerConfig(trust_domain="fleet.test")
_HERE = Client("127.0.0.1", "tests")


class QuietArchive:
    """Devices that never sent anything and do nothing."""

    def read_last(self, device: str, kind: str, stream: str, limit: int) -> list[Record]:
        del device, kind, stream, limit
        return []

    def find_presence(self, device: str) -> Presence | None:
        del device
        return None

    async def watch(self, device: str) -> AsyncGenerator[WatchItem, None]:
        yield WatchItem("telemetry", device, "2026-06-01T12:00:00.000Z", "temp", 21)


@dataclass
class Caller:
    """Somebody with a proof in hand."""

    console: "Console"
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.console.ask(method, f"/api/v1{path}", **{"headers": self.headers, **more})

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("GET", path, **more)

    def post(self, path: str, body: object = None) -> httpx.Response:
        return self.ask("POST", path, json=body)

    def delete(self, path: str) -> httpx.Response:
        return self.ask("DELETE", path)


@dataclass
class Console:
    """The application, and who may ask it."""

    app: FastAPI
    rooms: Rooms
    access: AccessContext
    clock: ManualClock
    _loop: asyncio.AbstractEventLoop
    _client: httpx.AsyncClient

    @classmethod
    @contextmanager
    def over(cls, app: FastAPI, rooms: Rooms, clock: ManualClock) -> "Iterator[Console]":
        """Yield one over an application that is built already."""
        loop = asyncio.new_event_loop()
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN)
        try:
            yield cls(app, rooms, rooms.access, clock, loop, client)
        finally:
            loop.run_until_complete(client.aclose())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self._loop.run_until_complete(self._client.request(method, path, **more))

    def open_stream(self, path: str, headers: dict[str, str]) -> httpx.Response:
        """Return the head of a stream that has no end, and hang up."""
        return self._loop.run_until_complete(_open_stream(self.app, path, headers))

    def read_stream(self, path: str, headers: dict[str, str], *, on_chunk: Callable[[], None]) -> bytes:
        """Return the whole of a stream that ends by itself; `on_chunk` runs after each piece of it."""
        return self._loop.run_until_complete(_read_stream(self.app, path, headers, on_chunk))

    @property
    def stranger(self) -> Caller:
        return Caller(self)

    @property
    def local(self) -> Caller:
        """Whoever reads the token in the data folder."""
        token = self.rooms.folder.admin_token.read_text().strip()
        return Caller(self, {"Authorization": f"Bearer {token}"})

    def person(self, name: str, *roles: tuple[Role, str], has_mfa: bool = True) -> Caller:
        """Return a signed-in operator with these roles, made when there is none of the name."""
        with self.rooms.db.write("operator:test") as tx:
            add_operator(tx, name, *roles)
        return self.sign_in(name, has_mfa=has_mfa)

    def sign_in(self, name: str, *, has_mfa: bool = True, restricted: bool = False) -> Caller:
        """Return an operator with a session of their own, its factors given just now."""
        with self.rooms.db.write("operator:test") as tx:
            opened = sessions.open_session(
                tx, self.access, name, "passkey", _HERE, has_mfa=has_mfa, restricted=restricted
            )
        return Caller(
            self,
            {
                "Cookie": f"__Host-fleetward={opened.secret}",
                "X-Fleetward-CSRF": csrf_token(opened.secret),
                "Origin": ORIGIN,
            },
        )

    def token(self, name: str, *scopes: str) -> Caller:
        """Return a program with an API token of an operator."""
        with self.rooms.db.write(f"operator:{name}") as tx:
            made = tokens.create(tx, name, "tests", frozenset(scopes), timedelta(days=1))
        return Caller(self, {"Authorization": f"Bearer {made.secret}"})


def make_platform(folder: Path) -> Path:
    """Make a platform with its keys, at noon of the tests' day, and return its data folder."""
    clock = ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))
    initialise(DataFolder(folder / "data"), CONFIG, passphrase_file=None, clock=clock, tell=_unheard)
    return folder / "data"


@contextmanager
def running_console(folder: Path, clock: ManualClock, *, database: str = "") -> Iterator[Console]:
    """Yield the application over a data folder, with active cam-1 and door-1 in groups of their own."""
    data, config = DataFolder(folder), msgspec.structs.replace(CONFIG, database=database)
    rooms = build_rooms(data, config, Ports(), clock)
    migrate(rooms.db)
    archive = QuietArchive()
    # No video flows here: a view is granted or refused before the bus is asked.
    media = media_context(rooms, cast("MediaBus", None))
    app = build_console_app(rooms, MessagingContext(archive, archive, archive), media, lambda _: None)
    with rooms.db.write("operator:test") as tx:
        devices.add_model(tx, Model(MODEL, AttestationPolicy.NONE))
        for device, group in (("cam-1", "cams"), ("door-1", "doors")):
            devices.register(tx, device, MODEL, group=group)
            devices.record_enrollment(tx, device, KeyTier.SOFTWARE)
    try:
        with Console.over(app, rooms, clock) as console:
            yield console
    finally:
        rooms.db.close()


async def _open_stream(app: FastAPI, path: str, headers: dict[str, str]) -> httpx.Response:
    begun = asyncio.Event()
    sent: list[Message] = []

    async def receive() -> Message:
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if message.get("body") or not message.get("more_body", True):
            begun.set()

    await app(_scope(path, headers), receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=body)


async def _read_stream(
    app: FastAPI, path: str, headers: dict[str, str], on_chunk: Callable[[], None]
) -> bytes:
    body = b""

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal body
        body += message.get("body", b"")
        if message.get("body"):
            await asyncio.to_thread(on_chunk)

    await app(_scope(path, headers), receive, send)
    return body


def _scope(path: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": "GET", "scheme": "https", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 123), "server": ("localhost", 8443), "root_path": "",
    }  # fmt: skip


def operations_of(app: FastAPI) -> dict[tuple[str, str], str | None]:
    """Return the permission of every operation under /api/v1, by method and path; None for a public one."""
    return {
        (method, str(route.path).removeprefix("/api/v1")): _permission(route.dependant)
        for route in iter_route_contexts(app.routes)
        if isinstance(route.original_route, APIRoute) and str(route.path).startswith("/api/v1")
        for method in sorted(route.methods or ())
    }


def _permission(dependant: Dependant) -> str | None:
    found: Callable[..., Any] | None
    for one in dependant.dependencies:
        found = one.call
        permission = getattr(found, "permission", None) or _permission(one)
        if permission is not None:
            return str(permission)
    return None


def _unheard(_text: str) -> None:
    """Take no note of what initialising tells people."""
