"""What the console waits for with 100,000 devices: p95 of its calls beside bare SQL, and what it downloads.

Ours is the API as the platform serves it: validation, permission, service, JSON schema; a permission check
that always says yes stands for the sign-in, and presence comes from memory instead of NATS. The peer is the
least that could answer: Starlette handlers in the same process that run the hand-written SQL of the same rows
over the same connection pool and dump them as JSON. Both are asked in turn, over HTTP on loopback.
"""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import urllib3
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.console_fleet import DEVICES, postgresql_fleet, sqlite_fleet
from bench.rig import Result, free_port_base
from fleetward.base.db import Database
from fleetward.base.web import Edge, Principal, add_error_handlers
from fleetward.features.attestation import http as attestation_http
from fleetward.features.devices import http as devices_http
from fleetward.features.events import http as events_http
from fleetward.features.events.tail import Tail
from fleetward.features.messaging import http as messaging_http
from fleetward.features.messaging.http import MessagingContext
from fleetward.features.messaging.model import Presence
from fleetward.features.overview import http as overview_http
from fleetward.features.pki import http as pki_http

_ROUNDS = 60
_WARM_UP = 5
_GOAL = "p95 ≤ 100 ms"
_DEVICE = "meter-050002"
_MIDDLE = f"meter-{DEVICES // 2 + 2:06}"
_COLUMNS = 'id, model, "group", state, state_reason, state_changed_at, tier, firmware_version, created_at'
_LIST = f"SELECT {_COLUMNS} FROM devices"  # noqa: S608 - our own constant
_ONE = {"device": _DEVICE}
_COUNT = "SELECT {column}, count(*) FROM devices GROUP BY {column}"
_PAGE_OF_ONE = {
    "": (f"{_LIST} WHERE id = :device",),
    "/certificates": ("SELECT serial, not_before, not_after FROM certificates WHERE device = :device",),
    "/appraisals": ("SELECT at, good, expires_at FROM attestation_appraisals WHERE device = :device",),
    "/presence": (f"{_LIST} WHERE id = :device",),
    "/shadow": ("SELECT desired, reported FROM shadows WHERE device = :device",),
    "/commands": ("SELECT id, name, state FROM commands WHERE device = :device",),
    "/firmware": ("SELECT reported FROM shadows WHERE device = :device",),
    "/why": (
        f"{_LIST} WHERE id = :device",
        "SELECT serial, not_after FROM certificates WHERE device = :device",
        "SELECT good, expires_at FROM attestation_appraisals WHERE device = :device ORDER BY id DESC LIMIT 1",
        "SELECT kind, message FROM events WHERE device = :device ORDER BY id DESC LIMIT 1",
    ),
}
_EVENTS = ("SELECT id, at, kind, message FROM events WHERE device = :device ORDER BY id LIMIT 100",)
# Figure → what the console asks, and the SQL that reads the same rows.
_FIGURES: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "device list, first page": [("/devices?limit=200", (f"{_LIST} ORDER BY id LIMIT 200",))],
    "device list, next page": [
        (f"/devices?limit=200&after={_MIDDLE}", (f"{_LIST} WHERE id > '{_MIDDLE}' ORDER BY id LIMIT 200",))
    ],
    "device list, jump to row 50,000": [
        ("/devices?limit=200&at=50000", (f"{_LIST} ORDER BY id LIMIT 200 OFFSET 50000",))
    ],
    "device list, by last change": [
        (
            "/devices?limit=200&sort=-changed",
            (f"{_LIST} ORDER BY state_changed_at DESC, id DESC LIMIT 200",),
        )
    ],
    "device list, model and state": [
        (
            "/devices?limit=200&model=meter&state=quarantined",
            (f"{_LIST} WHERE model = 'meter' AND state = 'quarantined' ORDER BY id LIMIT 200",),
        )
    ],
    "device list, searched": [
        ("/devices?limit=200&search=r-0999", (f"{_LIST} WHERE id LIKE '%r-0999%' ORDER BY id LIMIT 200",))
    ],
    "counts": [
        (
            "/devices/counts",
            tuple(
                _COUNT.format(column=column) for column in ("state", "model", "firmware_version", '"group"')
            ),
        )
    ],
    "device page, all its calls": [
        *((f"/devices/{_DEVICE}{part}", sql) for part, sql in _PAGE_OF_ONE.items()),
        (f"/events?device={_DEVICE}&limit=100", _EVENTS),
    ],
}
_ENTRY = "index.html"


def run(folder: Path) -> list[Result]:
    """Return p95 in milliseconds, ours beside the peer's, and kilobytes a route downloads."""
    found: list[Result] = []
    for name, fleet in (("SQLite", sqlite_fleet), ("PostgreSQL", postgresql_fleet)):
        with fleet(folder) as db, _serving(_make_ours(db)) as ours, _serving(_make_peer(db)) as peer:
            for figure, calls in _FIGURES.items():
                mine, its = _measure(figure, calls, ours, peer)
                found.append(Result(f"{figure}, {name}", "ms p95", mine, "bare SQL", its, _GOAL))
    return found + _measure_bundle()


class _Everybody:
    def authorize(self, request: Any, permission: str) -> Principal:
        del request, permission
        return Principal("operator:bench")


class _Nobody:
    def find_presence(self, device: str) -> Presence | None:
        return Presence(device, is_connected=True, since="2026-06-01T12:00:00.000Z")


def _make_ours(db: Database) -> FastAPI:
    app = FastAPI()
    add_error_handlers(app)
    nobody: Any = _Nobody()
    app.state.edge = Edge(db, _Everybody())
    app.state.events = Tail(db)
    app.state.messaging = MessagingContext(nobody, nobody, nobody, nobody)
    for router in (
        devices_http.router,
        events_http.router,
        pki_http.router,
        attestation_http.router,
        messaging_http.router,
        overview_http.router,
    ):
        app.include_router(router, prefix="/api/v1")
    return app


def _make_peer(db: Database) -> Starlette:
    statements = {
        f"/{figure}/{number}".replace(" ", "-").replace(",", ""): [sa.text(one) for one in sql]
        for figure, calls in _FIGURES.items()
        for number, (_, sql) in enumerate(calls)
    }

    def read(path: str) -> list[Any]:
        with db.engine.connect() as conn:
            return [
                [dict(row) for row in conn.execute(one, _ONE if ":device" in one.text else {}).mappings()]
                for one in statements[path]
            ]

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(read, request.url.path))

    return Starlette(routes=[Route(path, answer) for path in statements])


@contextmanager
def _serving(app: Any) -> Iterator[urllib3.HTTPConnectionPool]:
    """Yield connections to an app served by uvicorn as the platform does, without TLS, in a thread."""
    port = free_port_base()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        with urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=2) as pool:
            yield pool
    finally:
        server.should_exit = True
        thread.join()


def _measure(
    figure: str,
    calls: list[tuple[str, tuple[str, ...]]],
    ours: urllib3.HTTPConnectionPool,
    peer: urllib3.HTTPConnectionPool,
) -> tuple[float, float]:
    """Return p95 of all the calls of a figure, one after the other, in milliseconds: ours and the peer's."""
    prefix = f"/{figure}".replace(" ", "-").replace(",", "")
    paths = ([f"/api/v1{path}" for path, _ in calls], [f"{prefix}/{number}" for number in range(len(calls))])
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(_WARM_UP + _ROUNDS):
        for pool, asked, times in zip((ours, peer), paths, taken, strict=True):
            start = time.perf_counter()
            for path in asked:
                answer = pool.request("GET", path)
                if answer.status != 200:
                    raise RuntimeError(f"{path}: {answer.status} {answer.data[:300]!r}")
            if turn >= _WARM_UP:
                times.append((time.perf_counter() - start) * 1000)
    return _p95(taken[0]), _p95(taken[1])


def _p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95) - 1]


def _measure_bundle() -> list[Result]:
    """Return what each screen downloads, gzipped, beside what all need; nothing when it is not built."""
    folder = Path(str(resources.files("fleetward.programs.server"))) / "console"
    if not (folder / "manifest.json").exists():
        return []
    manifest: dict[str, dict[str, Any]] = json.loads((folder / "manifest.json").read_text())
    base = _closure(manifest, _ENTRY)
    size = _sizer(folder)
    shell = sum(map(size, base))
    found = [Result("console, shell", "kB gzip", shell, "budget", 250.0, "≤ 1.0")]
    for name, chunk in manifest.items():
        if chunk.get("isDynamicEntry") and name.startswith("src/"):
            whole = sum(map(size, base | _closure(manifest, name)))
            found.append(
                Result(f"console, {Path(name).stem}", "kB gzip", whole, "shell alone", shell, "≤ 1.5")
            )
    return found


def _closure(manifest: dict[str, dict[str, Any]], name: str) -> frozenset[str]:
    """Return the files a chunk loads at once: its own, its styles, and those of all it imports."""
    waiting, seen, files = [name], set[str](), set[str]()
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            chunk = manifest[one]
            files |= {chunk["file"], *chunk.get("css", ())}
            waiting += chunk.get("imports", ())
    return frozenset(files)


def _sizer(folder: Path) -> Callable[[str], float]:
    return lambda file: len(gzip.compress((folder / file).read_bytes(), 9)) / 1000
