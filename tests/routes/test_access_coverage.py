"""Every route of the operators' API, asked by a stranger and by each role. A new route fails until listed.

`who`: the roles that are let in, by first letter (viewer, operator, release-manager, security-officer,
administrator); `public` for everybody; `me` for anyone signed in, over what is their own.

`where`: what a role held in one group of devices opens. `device`: the devices of that group; others are not
there. `groups`: the route, with what it shows cut down to the group. `shared`: the route. `fleet`: nothing.

`gets`: what comes back to those who are let in: a body or a thing is missing, so that nothing changes.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

import fleetward
from fleetward.features.access.model.permissions import CATALOGUE, Reach
from fleetward.features.access.model.roles import Role
from support.clock import ManualClock
from support.console import Caller, Console, make_platform, operations_of, running_console

TABLE = """
method path                                                permission           who    where  gets
GET    /health                                             -                    public -      200
GET    /setup                                              -                    public -      200
POST   /setup/link                                         operator.recover     ....a  fleet  409
POST   /setup/begin                                        -                    public -      400
POST   /setup/finish                                       -                    public -      400
POST   /signin/invitation/begin                            -                    public -      400
POST   /signin/invitation/finish                           -                    public -      400
GET    /signin/options                                     -                    public -      200
POST   /signin/passkey/begin                               -                    public -      200
POST   /signin/passkey/finish                              -                    public -      400
POST   /signin/password                                    -                    public -      400
POST   /signin/recovery                                    -                    public -      400
POST   /signin/device-code                                 -                    public -      400
POST   /signin/device-code/token                           -                    public -      400
POST   /signout                                            me                   me     -      204
GET    /signin/oidc/start                                  -                    public -      404
GET    /signin/oidc/callback                               -                    public -      404
GET    /me                                                 me                   me     -      200
POST   /me/step-up/begin                                   me                   me     -      200
POST   /me/step-up/finish                                  me                   me     -      400
GET    /me/passkeys                                        me                   me     -      200
POST   /me/passkeys/begin                                  me                   me     -      200
POST   /me/passkeys/finish                                 me                   me     -      400
DELETE /me/passkeys/{passkey_id}                           me                   me     -      404
POST   /me/password                                        me                   me     -      400
POST   /me/totp/begin                                      me                   me     -      200
POST   /me/totp/finish                                     me                   me     -      400
POST   /me/recovery-codes                                  me                   me     -      201
GET    /me/sessions                                        me                   me     -      200
DELETE /me/sessions/{session_id}                           me                   me     -      404
GET    /device-codes/{user_code}                           me                   me     -      404
POST   /device-codes/{user_code}/approve                   me                   me     -      404
POST   /device-codes/{user_code}/deny                      me                   me     -      404
GET    /tokens                                             me                   me     -      200
POST   /tokens                                             token.create         vorsa  shared 400
DELETE /tokens/{token_id}                                  me                   me     -      404
GET    /operators                                          operator.read        ...sa  fleet  200
POST   /operators/invitations                              operator.invite      ....a  fleet  400
GET    /operators/{name}                                   operator.read        ...sa  fleet  404
POST   /operators/{name}/disable                           operator.disable     ...sa  fleet  400
POST   /operators/{name}/enable                            operator.invite      ....a  fleet  404
POST   /operators/{name}/recover                           operator.recover     ....a  fleet  404
GET    /operators/{name}/sessions                          session.read         ...sa  fleet  404
DELETE /operators/{name}/sessions                          session.revoke       ...sa  fleet  404
DELETE /operators/{name}/sessions/{session_id}             session.revoke       ...sa  fleet  404
GET    /roles                                              role.read            vorsa  shared 200
POST   /operators/{name}/grants                            grant.give           ....a  fleet  400
DELETE /operators/{name}/grants/{grant_id}                 grant.remove         ....a  fleet  404
POST   /reviews                                            review.start         ...sa  fleet  400
GET    /reviews                                            review.read          ...sa  fleet  200
GET    /reviews/{review_id}                                review.read          ...sa  fleet  404
POST   /reviews/{review_id}/items/{grant_id}               review.decide        ...sa  fleet  400
POST   /reviews/{review_id}/close                          review.close         ...sa  fleet  404
GET    /reviews/{review_id}/evidence                       review.read          ...sa  fleet  404
POST   /break-glass                                        break_glass.request  .orsa  shared 400
GET    /break-glass                                        break_glass.read     .orsa  shared 200
POST   /break-glass/{glass_id}/approve                     break_glass.approve  ...sa  fleet  404
POST   /break-glass/{glass_id}/end                         break_glass.end      .orsa  shared 404
POST   /break-glass/{glass_id}/review                      break_glass.review   ...sa  fleet  400
GET    /break-glass/{glass_id}/acts                        audit.read           ...sa  fleet  404
GET    /audit/entries                                      audit.read           ...sa  fleet  200
GET    /audit/checkpoints                                  audit.read           ...sa  fleet  200
GET    /audit/verify                                       audit.read           ...sa  fleet  200
GET    /audit/proof/inclusion                              audit.read           ...sa  fleet  400
GET    /audit/proof/consistency                            audit.read           ...sa  fleet  400
GET    /events                                             event.read           vorsa  groups 200
GET    /events/stream                                      event.read           vorsa  groups 200
POST   /models                                             model.add            ....a  fleet  400
GET    /models                                             model.read           vorsa  shared 200
GET    /devices                                            device.read          vorsa  groups 200
GET    /devices/counts                                     device.read          vorsa  groups 200
GET    /devices/{device_id}                                device.read          vorsa  device 200
GET    /devices/{device_id}/why                            device.read          vorsa  device 200
GET    /devices/{device_id}/firmware                       device.read          vorsa  device 200
POST   /devices/bulk                                       device.read          vorsa  groups 400
GET    /overview/today                                     device.read          vorsa  groups 200
POST   /events/{number}/acknowledge                        event.acknowledge    .o.sa  groups 400
GET    /filters                                            filter.manage        vorsa  shared 200
POST   /filters                                            filter.manage        vorsa  shared 400
DELETE /filters/{filter_id}                                filter.manage        vorsa  shared 404
GET    /settings/checklist                                 settings.read        vorsa  fleet  200
POST   /devices/{device_id}/quarantine                     device.quarantine    .o.sa  device 400
POST   /devices/{device_id}/release                        device.release       .o.sa  device 400
POST   /devices/{device_id}/revoke                         device.revoke        ...sa  device 400
POST   /devices/{device_id}/retire                         device.retire        ...sa  device 400
GET    /pki/authorities                                    authority.read       vorsa  shared 200
GET    /devices/{device_id}/certificates                   certificate.read     vorsa  device 200
GET    /pki/ca.pem                                         -                    public -      200
GET    /pki/crl                                            -                    public -      200
POST   /pki/ocsp                                           -                    public -      200
GET    /pki/ocsp/{encoded:path}                            -                    public -      200
GET    /devices/{device_id}/appraisals                     attestation.read     vorsa  device 200
GET    /models/{model_id}/references                       attestation.read     vorsa  shared 200
POST   /models/{model_id}/references                       attestation.manage   ...sa  fleet  400
POST   /models/{model_id}/references/{digest}/withdraw     attestation.manage   ...sa  fleet  404
GET    /attestation/ek-roots                               attestation.read     vorsa  shared 200
POST   /attestation/ek-roots                               attestation.manage   ...sa  fleet  400
POST   /attestation/ek-roots/{fingerprint}/withdraw        attestation.manage   ...sa  fleet  404
POST   /devices                                            device.add           .o..a  groups 400
POST   /devices/import                                     device.import        .o..a  groups 400
POST   /devices/{device_id}/claims                         device.claim         .o..a  device 400
POST   /factories                                          factory.trust        ...sa  fleet  400
GET    /factories                                          factory.read         vorsa  shared 200
GET    /devices/{device_id}/telemetry                      telemetry.read       vorsa  device 200
GET    /devices/{device_id}/shadow                         shadow.read          vorsa  device 200
PUT    /devices/{device_id}/shadow/desired                 shadow.write         .o..a  device 400
POST   /devices/{device_id}/commands                       command.run          .o..a  device 400
GET    /devices/{device_id}/commands                       command.read         vorsa  device 200
GET    /devices/{device_id}/commands/{number}              command.read         vorsa  device 404
GET    /devices/{device_id}/presence                       device.read          vorsa  device 200
GET    /devices/{device_id}/watch                          telemetry.read       vorsa  device 200
POST   /releases                                           release.publish      ..r.a  fleet  400
GET    /releases                                           release.read         vorsa  shared 200
GET    /releases/{model}/{version}                         release.read         vorsa  shared 404
POST   /releases/{model}/{version}/approve                 release.approve      ..rsa  fleet  404
POST   /releases/{model}/{version}/reject                  release.approve      ..rsa  fleet  400
POST   /releases/{model}/{version}/withdraw                release.withdraw     ..r.a  fleet  400
GET    /releases/{model}/{version}/manifest                release.read         vorsa  shared 404
GET    /releases/{model}/{version}/image                   release.read         vorsa  shared 404
GET    /releases/{model}/{version}/sbom                    release.read         vorsa  shared 404
GET    /trust/updates                                      release.read         vorsa  shared 200
POST   /devices/{device_id}/views                          video.view           .o..a  device 201
DELETE /views/{view_id}                                    video.view           .o..a  groups 404
"""

THINGS = {
    "device_id": "cam-1", "name": "nobody", "session_id": "ses_0", "grant_id": "gr_0", "review_id": "rev_0",
    "glass_id": "bg_0", "model": "camera", "model_id": "camera", "version": "9.9", "digest": "00",
    "fingerprint": "00", "number": "999", "view_id": "view_0", "passkey_id": "pk_0", "token_id": "tok_0",
    "user_code": "BCDF-GHJK", "filter_id": "filter_0", "encoded:path": "AA==",
}  # fmt: skip
LETTERS = dict(zip("vorsa", Role, strict=True))


@dataclass(frozen=True)
class Row:
    method: str
    path: str
    permission: str
    who: str
    where: str
    gets: int

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def roles(self) -> set[Role]:
        return {LETTERS[letter] for letter in self.who if letter in LETTERS}


ROWS = [
    Row(method, path, permission, who, where, int(gets))
    for method, path, permission, who, where, gets in (line.split() for line in TABLE.split("\n")[2:-1])
]
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
        people = {
            (role, group): console.person(f"{role}-{name}", (role, group))
            for role in Role
            for name, group in (("everywhere", "*"), ("cams", "cams"), ("doors", "doors"))
        }
        yield House(console, people)


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
