"""Every route of the operators' API, asked by strangers and by each role, as `operator_routes` lists them."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

import fleetward
from fleetward.base.permissions import Reach
from fleetward.features.access.model.roles import Role
from fleetward.features.pki import service as pki
from fleetward.programs.server.doors import CATALOGUE
from support.clock import ManualClock
from support.console import Caller, Console, make_platform, operations_of, running_console
from support.enrolling import sign_csr
from support.operator_routes import ROWS, Row

THINGS = {
    "device_id": "cam-1", "name": "nobody", "session_id": "ses_0", "grant_id": "gr_0", "review_id": "rev_0",
    "glass_id": "bg_0", "model": "camera", "model_id": "camera", "version": "9.9", "digest": "00",
    "fingerprint": "00", "number": "999", "view_id": "view_0", "passkey_id": "pk_0", "token_id": "tok_0",
    "serial": "77", "user_code": "BCDF-GHJK", "filter_id": "filter_0", "encoded:path": "AA==",
}  # fmt: skip
of_roles = pytest.mark.parametrize("row", [row for row in ROWS if row.who not in ("public", "me")], ids=str)


@dataclass
class House:
    """The console, with every role held in all groups, in the device's group, and in another."""

    console: Console
    people: dict[tuple[Role, str], Caller]

    def ask(self, row: Row, who: Caller, **things: str) -> httpx.Response:
        path = re.sub(r"{([^}]+)}", lambda found: {**THINGS, **things}[found[1]], row.path)
        if row.path == "/events/stream":
            return self.console.open_stream(f"/api/v1{path}", who.headers)
        return who.ask(row.method, path)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    clock = ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))
    with running_console(make_platform(tmp_path_factory.mktemp("console")), clock) as console:
        give_certificate(console, THINGS["device_id"])
        people = {
            (role, group): console.person(f"{role}-{name}", (role, group))
            for role in Role
            for name, group in (("everywhere", "*"), ("cams", "cams"), ("doors", "doors"))
        }
        yield House(console, people)


def give_certificate(console: Console, device: str) -> None:
    """Without a live one there is no session, and nothing to view."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.load_der_x509_csr(sign_csr(key, device))
    with console.rooms.db.write("system:test") as tx:
        pki.issue_device_certificate(tx, console.rooms.pki, device, csr, timedelta(days=30))


def test_every_route_is_listed_with_its_permission(house: House) -> None:
    listed = {(row.method, row.path): None if row.permission == "-" else row.permission for row in ROWS}
    assert operations_of(house.console.app) == listed


def test_every_permission_is_in_the_catalogue_and_held_by_a_role(house: House) -> None:
    decider, now = house.console.access.decider, house.console.clock.now()
    held = {name for role in Role for name in decider.permissions_of_role(role, now)}
    named = {row.permission for row in ROWS} - {"-", "me"}
    assert named <= set(CATALOGUE)
    assert set(CATALOGUE) == held


def test_the_table_agrees_with_the_policies(house: House) -> None:
    decider, now = house.console.access.decider, house.console.clock.now()
    by_role = {role: set(decider.permissions_of_role(role, now)) for role in Role}
    wheres = {Reach.DEVICES: "groups", Reach.SHARED: "shared", Reach.FLEET: "fleet"}
    for row in ROWS:
        if row.permission in CATALOGUE:
            assert row.roles == {role for role in Role if row.permission in by_role[role]}, row
            is_of_a_device = "{device_id}" in row.path
            assert row.where == ("device" if is_of_a_device else wheres[CATALOGUE[row.permission].reach]), row


def test_every_command_asks_a_listed_route() -> None:
    """So that every verb of the command line stands behind one permission of the table."""
    listed = {(row.method, re.sub(r"{[^}]+}", "{}", row.path)) for row in ROWS}
    methods = {"get": "GET", "get_bytes": "GET", "stream": "GET", "post": "POST", "send": "POST",
               "post_multipart": "POST", "put": "PUT", "delete": "DELETE"}  # fmt: skip
    asked = set()
    for source in (Path(fleetward.__file__).parent / "programs/cli").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            path = _literal(node.args[0])
            if node.func.attr in methods and path.startswith("/"):
                asked.add((methods[node.func.attr], path))
    assert len(asked) > 20
    assert [one for one in sorted(asked) if not any(_stands_for(one, other) for other in listed)] == []


def _stands_for(asked: tuple[str, str], listed: tuple[str, str]) -> bool:
    """Whether a command's path is a listed one; what a command fills in may be a verb of the route."""
    ours, theirs = asked[1].split("/"), listed[1].split("/")
    is_same = asked[0] == listed[0] and len(ours) == len(theirs)
    return is_same and all(one in ("{}", other) for one, other in zip(ours, theirs, strict=True))


def _literal(node: ast.expr) -> str:
    """Return the text of a string, with {} for what an f-string fills in; "" for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_stranger_is_refused_all_but_what_is_public(house: House, row: Row) -> None:
    answer = house.ask(row, house.console.stranger)
    if row.who == "public":
        assert answer.status_code == row.gets
    else:
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("row", [row for row in ROWS if row.who == "me"], ids=str)
def test_anybody_signed_in_has_what_is_their_own_and_a_program_has_not(house: House, row: Row) -> None:
    person = house.console.sign_in("viewer-cams")
    assert house.ask(row, person).status_code == row.gets
    if row.path not in ("/me", "/signout"):
        program = house.console.token("viewer-cams", *CATALOGUE)
        assert house.ask(row, program).status_code == 403


@of_roles
@pytest.mark.parametrize("role", Role)
def test_a_role_in_all_groups_opens_what_the_table_says(house: House, row: Row, role: Role) -> None:
    answer = house.ask(row, house.people[role, "*"])
    assert answer.status_code == (row.gets if role in row.roles else 403), answer.text


@of_roles
@pytest.mark.parametrize("role", Role)
def test_a_role_in_the_devices_group_opens_all_but_the_fleet(house: House, row: Row, role: Role) -> None:
    answer = house.ask(row, house.people[role, "cams"])
    is_open = role in row.roles and row.where != "fleet"
    assert answer.status_code == (row.gets if is_open else 403), answer.text


@pytest.mark.parametrize("row", [row for row in ROWS if row.where == "device"], ids=str)
@pytest.mark.parametrize("role", Role)
def test_a_device_of_another_group_reads_like_one_that_is_not_there(
    house: House, row: Row, role: Role
) -> None:
    person = house.people[role, "doors"]
    hidden, ghost = house.ask(row, person), house.ask(row, person, device_id="ghost-1")
    assert hidden.status_code == ghost.status_code == 404
    assert hidden.text.replace("cam-1", "ghost-1") == ghost.text
    assert {**hidden.headers, "content-length": ""} == {**ghost.headers, "content-length": ""}


@of_roles
def test_a_recovery_session_opens_nothing(house: House, row: Row) -> None:
    person = house.console.sign_in("administrator-everywhere", has_mfa=False, restricted=True)
    answer = house.ask(row, person)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
