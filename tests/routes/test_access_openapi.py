"""The API is asked what its own OpenAPI document allows, by schemathesis: no 5xx, nothing undocumented."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fleetward.base.web import PROBLEMS
from fleetward.features.access.model.roles import Role
from support.clock import ManualClock
from support.console import MODEL, Console, make_platform, running_console

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip
# Names of what is there, put in place of half of the invented ones: else nearly every answer is a 404.
KNOWN = {"device_id": "cam-1", "model": MODEL, "model_id": MODEL, "name": "bob"}
# It has no end; the coverage test opens it.
ENDLESS = {"/api/v1/events/stream"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_platform(tmp_path_factory.mktemp("openapi"))


@pytest.fixture(scope="module")
def console(folder: Path) -> Iterator[Console]:
    with running_console(folder, ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))) as found:
        found.person("bob")
        yield found


def test_every_operation_documents_every_problem(console: Console) -> None:
    document = console.stranger.get("/openapi.json").json()
    found = {
        (path, status)
        for path, operations in document["paths"].items()
        for operation in operations.values()
        for status in operation["responses"]
        if path.startswith("/api/v1") and status[0] in "45"
    }
    paths = {path for path, _ in found}
    assert found == {(path, str(status)) for path in paths for status in PROBLEMS}
    assert document["components"]["schemas"]["Problem"]["required"] == [
        "type", "title", "status", "detail", "code",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("role", [None, *Role])
def test_the_api_answers_as_it_documents(console: Console, role: Role | None) -> None:
    if role is not None:
        console.person(str(role), (role, "*"))
    ask_all(console, role, examples=10 if role is Role.ADMINISTRATOR else 4)


@pytest.mark.slow
def test_the_api_answers_so_over_postgresql(folder: Path, clock: ManualClock, postgres_url: str) -> None:
    """What PostgreSQL cannot hold is refused too, e.g. NUL in a text."""
    with running_console(folder, clock, database=postgres_url) as console:
        console.person("bob")
        console.person(Role.ADMINISTRATOR, (Role.ADMINISTRATOR, "*"))
        assert console.sign_in(Role.ADMINISTRATOR).get("/devices?search=%00").status_code == 400
        ask_all(console, Role.ADMINISTRATOR, examples=6)


def ask_all(console: Console, role: Role | None, *, examples: int) -> None:
    """Ask every operation of the document, `examples` times each."""
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", console.app)
    asked = 0
    found: Any
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.startswith("/api/v1/") and operation.path not in ENDLESS:
            # Anew each time: an operation may end the session it came with.
            caller = console.stranger if role is None else console.sign_in(role)
            ask(operation, caller.headers, examples)
            asked += 1
    assert asked > 100


def ask(operation: Any, headers: dict[str, str], examples: int) -> None:
    count = 0

    @seed(20261125)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy())
    def play(case: Any) -> None:
        nonlocal count
        count += 1
        if count % 2:
            known = {name: value for name, value in KNOWN.items() if name in (case.path_parameters or {})}
            case.path_parameters = {**(case.path_parameters or {}), **known}
        case.call_and_validate(headers=headers, checks=CHECKS)

    play()
