"""What people try with the rights they have: to raise them, to look past their groups, to act alone."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.base import sse
from fleetward.base.events import emit
from fleetward.features.access.model.roles import Role
from fleetward.features.access.service import grants
from fleetward.features.media.store import views
from fleetward.programs.server.doors import CATALOGUE
from support.clock import ManualClock
from support.console import MODEL, Caller, Console, make_platform, running_console

EVERYWHERE = "*"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_platform(tmp_path_factory.mktemp("blueprint"))


@pytest.fixture
def console(blueprint: Path, tmp_path: Path, clock: ManualClock) -> Iterator[Console]:
    shutil.copytree(blueprint, tmp_path / "data")
    with running_console(tmp_path / "data", clock) as found:
        yield found


@pytest.fixture
def ada(console: Console) -> Caller:
    return console.person("ada", (Role.ADMINISTRATOR, EVERYWHERE))


def grant_ids(console: Console, name: str) -> list[str]:
    with console.rooms.db.read() as tx:
        return [one.id for one in grants.list_grants(tx, name)]


# -- nobody raises their own rights


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("group", [EVERYWHERE, "cams"])
def test_no_role_raises_its_own_rights(console: Console, ada: Caller, role: Role, group: str) -> None:
    del ada
    eve = console.person("eve", (role, group))
    before = eve.get("/me").json()["permissions"]
    for wanted in Role:
        for where in (EVERYWHERE, "doors"):
            answer = eve.post("/operators/eve/grants", {"role": wanted, "group": where})
            assert answer.status_code == 403, answer.text
    is_administrator = (role, group) == (Role.ADMINISTRATOR, EVERYWHERE)
    invited = eve.post("/operators/invitations", {"name": "eve", "grants": [{"role": "administrator"}]})
    assert invited.status_code == (409 if is_administrator else 403)
    assert eve.post("/operators/eve/recover").status_code == (200 if is_administrator else 403)
    eve = console.sign_in("eve")
    made = eve.post("/tokens", {"name": "t", "scopes": sorted(CATALOGUE), "expires_in": "1d"})
    token = Caller(console, {"Authorization": f"Bearer {made.json()['token']}"})
    for path in ("/models", "/factories", "/reviews", "/devices/cam-1/revoke", "/devices/door-1/revoke"):
        assert token.post(path).status_code == eve.post(path).status_code, path
    assert console.sign_in("eve").get("/me").json()["permissions"] == before


def test_giving_oneself_a_role_is_told_apart(ada: Caller) -> None:
    answer = ada.post("/operators/ada/grants", {"role": "viewer", "group": "cams"})
    assert (answer.status_code, answer.json()["code"]) == (403, "own_rights")


def test_an_administrator_of_one_group_administers_no_people(console: Console, ada: Caller) -> None:
    del ada
    gus = console.person("gus", (Role.ADMINISTRATOR, "cams"))
    console.person("bob")
    assert gus.post("/operators/bob/grants", {"role": "viewer", "group": "cams"}).status_code == 403
    assert gus.get("/operators").status_code == 403
    assert gus.post("/devices/cam-1/revoke", {"reason": "stolen"}).status_code == 200


def test_the_last_administrator_can_be_neither_removed_nor_disabled(console: Console, ada: Caller) -> None:
    olga = console.person("olga", (Role.SECURITY_OFFICER, EVERYWHERE))
    assert olga.post("/operators/ada/disable", {"reason": "why not"}).status_code == 409
    last = ada.delete(f"/operators/ada/grants/{grant_ids(console, 'ada')[0]}")
    assert (last.status_code, last.json()["code"]) == (409, "last_administrator")
    console.person("bea", (Role.ADMINISTRATOR, EVERYWHERE))
    assert olga.post("/operators/bea/disable", {"reason": "left"}).status_code == 200
    assert olga.post("/operators/ada/disable", {"reason": "why not"}).status_code == 409
    assert ada.delete(f"/operators/ada/grants/{grant_ids(console, 'ada')[0]}").status_code == 409


def test_a_grant_is_given_found_and_taken(console: Console, ada: Caller) -> None:
    bob = console.person("bob")
    assert bob.get("/devices").status_code == 403
    given = ada.post("/operators/bob/grants", {"role": "operator", "group": "cams"})
    assert given.status_code == 201
    assert [one["id"] for one in bob.get("/devices").json()["devices"]] == ["cam-1"]
    assert ada.delete(f"/operators/ada/grants/{given.json()['id']}").status_code == 404
    assert ada.delete(f"/operators/bob/grants/{given.json()['id']}").status_code == 204
    assert bob.get("/devices").status_code == 403


@pytest.mark.parametrize(
    "body", [{"role": "root"}, {"role": "viewer", "group": "a.b"}, {"role": "viewer", "group": ""}]
)
def test_a_grant_of_nothing_known_is_refused(console: Console, ada: Caller, body: dict[str, str]) -> None:
    console.person("bob")
    assert ada.post("/operators/bob/grants", body).status_code == 400


# -- tokens


def test_a_token_reaches_no_further_than_its_scopes(console: Console, ada: Caller) -> None:
    del ada
    token = console.token("ada", "device.read")
    assert token.get("/devices").status_code == 200
    for method, path in (("GET", "/models"), ("GET", "/devices/cam-1/shadow"), ("GET", "/audit/entries"),
                         ("GET", "/me/sessions"), ("POST", "/tokens"), ("DELETE", "/tokens/tok_0"),
                         ("POST", "/me/step-up/begin"), ("POST", "/operators/bob/grants")):  # fmt: skip
        assert token.ask(method, path).status_code == 403, path


def test_a_token_reaches_no_further_than_its_owner_does_now(console: Console, ada: Caller) -> None:
    console.person("vic", (Role.VIEWER, "cams"))
    token = console.token("vic", *CATALOGUE)
    assert token.get("/devices/cam-1").status_code == 200
    assert token.get("/devices/door-1").status_code == 404
    assert token.post("/devices/cam-1/revoke", {"reason": "stolen"}).status_code == 403
    ada.delete(f"/operators/vic/grants/{grant_ids(console, 'vic')[0]}")
    assert token.get("/devices/cam-1").status_code == 404
    assert token.get("/devices").status_code == 403


def test_a_dangerous_act_is_closed_to_tokens_save_handing_in_releases(console: Console, ada: Caller) -> None:
    del ada
    token = console.token("ada", *CATALOGUE)
    refused = token.post("/operators/bob/grants", {"role": "viewer"})
    assert (refused.status_code, refused.json()["code"]) == (403, "step_up_required")
    assert token.post("/releases").status_code == 400
    assert token.post(f"/releases/{MODEL}/1.0.0/approve").status_code == 403


# -- fresh factors


def test_a_dangerous_act_asks_for_fresh_factors(console: Console, ada: Caller, clock: ManualClock) -> None:
    console.person("bob")
    clock.advance(timedelta(minutes=5, seconds=1))
    stale = ada.post("/operators/bob/grants", {"role": "viewer"})
    assert (stale.status_code, stale.json()["code"]) == (403, "step_up_required")
    assert ada.post("/devices/cam-1/quarantine", {"reason": "odd"}).status_code == 200
    fresh = console.sign_in("ada")
    assert fresh.post("/operators/bob/grants", {"role": "viewer"}).status_code == 201


def test_who_may_not_is_not_asked_to_prove_themselves_again(
    console: Console, ada: Caller, clock: ManualClock
) -> None:
    del ada
    vic = console.person("vic", (Role.VIEWER, EVERYWHERE))
    clock.advance(timedelta(minutes=6))
    assert vic.post("/operators/bob/grants", {"role": "viewer"}).json()["code"] == "forbidden"


# -- groups


def test_lists_show_the_callers_groups_only(console: Console, ada: Caller) -> None:
    vic = console.person("vic", (Role.VIEWER, "cams"))
    both = console.person("bob", (Role.VIEWER, "cams"), (Role.OPERATOR, "doors"))

    def seen(who: Caller, path: str, key: str, field: str) -> set[str]:
        return {one[field] for one in who.get(path).json()[key]}

    assert seen(vic, "/devices", "devices", "id") == {"cam-1"}
    assert seen(vic, "/devices?group=doors", "devices", "id") == set()
    assert seen(both, "/devices", "devices", "id") == {"cam-1", "door-1"}
    assert seen(ada, "/devices", "devices", "id") == {"cam-1", "door-1"}
    assert seen(vic, "/events", "events", "device") == {"cam-1"}
    assert seen(vic, "/events?device=door-1", "events", "device") == set()
    assert seen(ada, "/events", "events", "device") == {None, "cam-1", "door-1"}


def test_a_permission_of_one_group_is_not_that_of_another(console: Console) -> None:
    """Operator of doors, viewer of cams: each stays where it was given."""
    bob = console.person("bob", (Role.VIEWER, "cams"), (Role.OPERATOR, "doors"))
    assert bob.post("/devices/door-1/quarantine", {"reason": "odd"}).status_code == 200
    assert bob.post("/devices/cam-1/quarantine", {"reason": "odd"}).status_code == 403
    assert bob.get("/devices/cam-1").status_code == 200


def test_devices_are_registered_in_the_callers_groups_only(console: Console) -> None:
    otto = console.person("otto", (Role.OPERATOR, "cams"))
    body = {"id": "cam-2", "model": MODEL, "group": "doors"}
    assert otto.post("/devices", body).status_code == 403
    assert otto.post("/devices", {**body, "group": "cams"}).status_code == 201


def test_a_view_of_another_group_reads_like_one_that_is_not_there(console: Console) -> None:
    otto = console.person("otto", (Role.OPERATOR, "cams"))
    with console.rooms.db.write("operator:ada") as tx:
        # Into the table: a view is granted over a verified session, which no device has here.
        tx.conn.execute(views.insert().values(
            id="view_1", device="door-1", actor="operator:ada", ticket_hash=b"1" * 32, created_at=tx.now,
            ticket_expires_at=tx.now, expires_at=tx.now + timedelta(minutes=5),
        ))  # fmt: skip
    hidden, ghost = otto.delete("/views/view_1"), otto.delete("/views/view_0")
    assert (hidden.status_code, hidden.text.replace("view_1", "view_0")) == (404, ghost.text)
    dora = console.person("dora", (Role.OPERATOR, "doors"))
    assert dora.delete("/views/view_1").status_code == 204


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"reason": "odd"}'])
def test_whatever_the_body_a_hidden_device_reads_like_one_that_is_not_there(
    console: Console, body: bytes
) -> None:
    otto = console.person("otto", (Role.OPERATOR, "cams"))
    hidden, ghost = (
        otto.ask("POST", f"/devices/{one}/quarantine", content=body) for one in ("door-1", "ghost-1")
    )
    assert (hidden.status_code, hidden.text.replace("door-1", "ghost-1")) == (404, ghost.text)


def test_a_stream_ends_when_its_reader_may_no_longer_read(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would tell for as long as the line holds. Were it not to end, neither would this test."""
    monkeypatch.setattr(sse, "READMIT_EVERY_S", 0.0)
    vic = console.person("vic", (Role.VIEWER, "cams"))
    taken = grant_ids(console, "vic")[0]
    seen = 0

    def on_first_chunk() -> None:
        nonlocal seen
        seen += 1
        with console.rooms.db.write("operator:ada") as tx:
            if seen == 1:
                grants.remove(tx, taken)
            emit(tx, "test.noticed", "Something happened.", device="cam-1")

    body = console.read_stream("/api/v1/events/stream", vic.headers, on_chunk=on_first_chunk)
    assert b"device.registered" in body
    assert b"test.noticed" not in body


# -- what a grant is used for


def test_a_use_is_recorded_once_a_minute_for_the_weakest_grant(
    console: Console, ada: Caller, clock: ManualClock
) -> None:
    def last_used(role: str) -> str | None:
        found = ada.get("/operators/bob").json()["grants"]
        return next(str(one["last_used_at"]) for one in found if one["role"] == role)

    bob = console.person("bob", (Role.VIEWER, EVERYWHERE), (Role.SECURITY_OFFICER, EVERYWHERE))
    bob.get("/devices")
    assert (last_used("viewer"), last_used("security-officer")) == ("2026-06-01T12:00:00.000Z", "None")
    clock.advance(timedelta(seconds=59))
    bob.get("/devices")
    assert last_used("viewer") == "2026-06-01T12:00:00.000Z"
    clock.advance(timedelta(seconds=1))
    bob.get("/devices")
    bob.get("/audit/entries")
    assert last_used("viewer") == last_used("security-officer") == "2026-06-01T12:01:00.000Z"


def test_a_refusal_uses_no_grant(console: Console, ada: Caller) -> None:
    bob = console.person("bob", (Role.VIEWER, EVERYWHERE))
    bob.post("/devices/cam-1/quarantine", {"reason": "odd"})
    assert ada.get("/operators/bob").json()["grants"][0]["last_used_at"] is None


# -- the local token


def test_the_local_token_does_everything_until_there_is_an_operator(console: Console) -> None:
    local = console.local
    assert local.post("/devices/cam-1/quarantine", {"reason": "odd"}).status_code == 200
    console.person("ada", (Role.ADMINISTRATOR, EVERYWHERE))
    assert local.post("/devices/cam-1/release", {"reason": "well"}).status_code == 200
    for path, body in (("/operators/ada/grants", {"role": "viewer"}), ("/reviews", {"title": "x"}),
                       ("/break-glass", {"reason": "x" * 20}), ("/operators/invitations", {"name": "eve"}),
                       (f"/releases/{MODEL}/1.0.0/approve", None)):  # fmt: skip
        assert local.post(path, body).status_code == 403, path
    assert local.post("/operators/ada/recover").status_code == 200
