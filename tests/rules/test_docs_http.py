"""The pages on HTTP list the routes, codes, events and audit actions that the code has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from fleetward.base.clock import SystemClock
from fleetward.base.config import Ports, ServerConfig
from fleetward.base.layout import DataFolder
from fleetward.base.web import _Requires
from fleetward.features.access.http.asking import SignedIn
from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging.model import CommandState
from fleetward.outside.nats import refusals
from fleetward.programs.server.build import (
    Rooms,
    build_console_app,
    build_devices_app,
    build_rooms,
    media_context,
    messaging_context,
)
from fleetward.programs.server.doors import EVENT_KINDS
from fleetward.programs.server.initialise import initialise

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/http.md").read_text()
DEVICES_PAGE = (ROOT / "docs/reference/http-devices.md").read_text()
SOURCES = [ast.parse(path.read_text()) for path in sorted((ROOT / "src/fleetward").rglob("*.py"))]
NOT_BUILT = cast("Any", None)  # connections that routes reach only when they are asked


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    folder = DataFolder(tmp_path_factory.mktemp("documented") / "data")
    wanted, clock = ServerConfig("fleet.local"), SystemClock()
    done = initialise(folder, wanted, passphrase_file=None, clock=clock, tell=lambda _text: None)
    rooms = build_rooms(folder, done.config, Ports(), clock)
    yield rooms
    rooms.db.close()


@pytest.fixture(scope="module")
def app(rooms: Rooms) -> FastAPI:
    media = media_context(rooms, NOT_BUILT)
    return build_console_app(rooms, messaging_context(NOT_BUILT, NOT_BUILT), media, lambda _authorities: None)


def test_every_route_is_listed_with_its_permission(app: FastAPI) -> None:
    rows = {
        f"| `{method} {path}` | `{permission}` |" if permission else f"`{method} {path}`"
        for method, path, permission in _routes(app)
    }
    assert "| `GET /api/v1/models` | `model.read` |" in rows
    assert {row for row in rows if row not in PAGE} == set()


def test_no_route_is_listed_that_is_not_there(app: FastAPI) -> None:
    there = {(method, path) for method, path, _ in _routes(app)}
    assert set(_listed(PAGE)) - there == set()


def test_every_route_for_devices_is_listed(rooms: Rooms) -> None:
    there = {
        (method, path)
        for method, path, _ in _routes(build_devices_app(rooms, media_context(rooms, NOT_BUILT)))
    }
    assert {one for one in there if "`{} {}`".format(*one) not in DEVICES_PAGE} == set()
    assert set(_listed(DEVICES_PAGE)) - there == set()


def test_every_error_code_is_listed() -> None:
    classes = [node for tree in SOURCES for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    codes = {code for one in classes for statement in one.body if (code := _code_in(statement))}
    assert "not_found" in codes
    assert {code for code in codes if f"`{code}`" not in PAGE} == set()


def test_every_kind_of_event_stands_in_a_door() -> None:
    found = {_written(call.args[1]) for call in _calls("emit") if len(call.args) > 1} - {"one.kind"}
    variable = {kind for kind in found if not re.fullmatch(r"[a-z_]+\.[a-z_]+", kind)}
    known = {"f'command.{state}'", "kind", "action"}
    assert variable == known, "teach this test the new kinds"
    kinds = (
        (found - variable)
        | _named("kind", "action")
        | {f"command.{state}" for state in CommandState} - {"command.sent"}
    )
    recorder = Path(refusals.__file__).read_text()
    kinds |= set(re.findall(r'"([a-z]+\.(?:refused|conflicted|added|limited))"', recorder))
    assert kinds <= set(EVENT_KINDS)


def test_every_audited_action_is_listed() -> None:
    found = {_written(call.args[1]) for call in _calls("record", of="journal")}
    variable = {action for action in found if not re.fullmatch(r"[a-z_]+\.[a-z_]+", action)}
    known = {"f'command.{state}'", "f'device.{to.value}'", "action"}
    assert variable == known, "teach this test the new actions"
    actions = (found - variable) | _named("action") | {f"device.{state}" for state in DeviceState}
    page = PAGE.partition("\nActions: ")[2]
    assert {action for action in actions if f"`{action}`" not in page} == set()


def _listed(page: str) -> list[tuple[str, str]]:
    return re.findall(r"`(GET|POST|PUT|DELETE|PATCH|WS) (/[^`?\s]+)", page)


def _routes(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    """Yield method, path and permission of each route; the permission is "" where anyone may come."""
    for route in iter_route_contexts(app.routes):
        needed = route.dependant.dependencies if getattr(route, "dependant", None) else []
        named = (one.call for one in needed if isinstance(one.call, _Requires | SignedIn))
        permission = next((one.permission for one in named), "")
        for method in set(route.methods or {"WS"}) - {"HEAD"}:
            yield method, str(route.path).replace(":path}", "}"), permission


def _calls(name: str, *, of: str | None = None) -> Iterator[ast.Call]:
    for tree in SOURCES:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == (f"{of}.{name}" if of else name):
                yield node


def _named(*names: str) -> set[str]:
    """Return the kinds and actions that reach `emit` and `append` by a variable of one of these names."""
    nodes = [node for tree in SOURCES for node in ast.walk(tree)]
    written = [node.value for node in nodes if isinstance(node, ast.Assign) and _target(node) in names]
    written += [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg in names]
    written += [one for call in _calls("_record") for one in call.args]
    texts = {str(one.value) for node in written for one in ast.walk(node) if isinstance(one, ast.Constant)}
    return {text for text in texts if re.fullmatch(r"[a-z_]+\.[a-z_]+", text)}


def _target(node: ast.Assign) -> str:
    return ast.unparse(node.targets[0])


def _written(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
    return ast.unparse(node)


def _code_in(statement: ast.stmt) -> str:
    """Return the text that a class gives its attribute `code`, "" for any other statement."""
    match statement:
        case (
            ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(text)))
            | ast.AnnAssign(target=ast.Name(id="code"), value=ast.Constant(value=str(text)))
        ):
            return text
    return ""
