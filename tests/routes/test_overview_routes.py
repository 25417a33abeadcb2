"""The console's routes: permissions, forms, and what they refuse."""

import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from fleetward.base.config import ServerConfig
from fleetward.base.db import Database
from fleetward.base.errors import ForbiddenError
from fleetward.base.feature import House
from fleetward.base.layout import DataFolder
from fleetward.base.web import Edge, Principal, add_error_handlers
from fleetward.features.access.model.roles import Role
from fleetward.features.devices import http as devices_http
from fleetward.features.messaging.http import MessagingContext
from fleetward.features.messaging.model import Presence
from fleetward.features.overview import http as overview_http
from fleetward.features.overview.context import OverviewContext
from fleetward.programs.server.doors import DOORS, cards_of, checks_of
from fleetward.programs.server.premises import FolderSurveyor
from support.asgi import AsgiClient
from support.clock import ManualClock
from support.console import Caller, make_platform, running_console
from support.overview import SENSOR, Fleet, make_fleet
from support.people import add_operator


class Presences:
    """Knows one device that is connected."""

    def find_presence(self, device: str) -> Presence | None:
        return (
            Presence(device, is_connected=True, since="2026-06-01T12:00:00.000Z") if device == "s-1" else None
        )


class Permissions:
    """Lets in whoever holds the permission the route asks for; `may` names all they hold."""

    def authorize(self, request: Request, permission: str) -> Principal:
        held = request.headers.get("may", "").split()
        request.state.identity = held
        if permission not in held:
            raise ForbiddenError(f"permission: expected {permission}, found {held}")
        return Principal("operator:test")


class Held:
    """Says what somebody may do: what they hold, in all groups."""

    def list_rights(self, _tx: object, identity: list[str]) -> dict[str, tuple[str, ...]]:
        return dict.fromkeys(identity, ("*",))


@pytest.fixture
def fleet(tmp_path: Path, db: Database, clock: ManualClock) -> Fleet:
    made = make_fleet(tmp_path, db, clock)
    made.enroll("s-1")
    made.enroll("s-2")
    return made


@pytest.fixture
def app(fleet: Fleet, tmp_path: Path) -> FastAPI:
    app = FastAPI()
    add_error_handlers(app)
    presences: Any = Presences()
    app.state.edge = Edge(fleet.db, Permissions())
    app.state.messaging = MessagingContext(presences, presences, presences, presences)
    surveyor = FolderSurveyor(DataFolder(tmp_path), ServerConfig("fleet.test"), lambda: None)
    app.state.overview = OverviewContext(surveyor, cards_of(DOORS), checks_of(DOORS))
    app.state.house = House(fleet.db, fleet.clock).furnished(fleet.authority, app.state.overview)
    app.state.access = SimpleNamespace(decider=Held())
    app.include_router(devices_http.router, prefix="/api/v1")
    app.include_router(overview_http.router, prefix="/api/v1")
    return app


Ask = Callable[..., httpx.Response]


def add_administrator(fleet: Fleet) -> None:
    with fleet.db.write("operator:test") as tx:
        add_operator(tx, "ann", (Role.ADMINISTRATOR, "*"))


@pytest.fixture
def ask(app: FastAPI) -> Ask:
    client = AsgiClient(app)

    def request(method: str, path: str, may: str, **more: Any) -> httpx.Response:
        return client.request(method, f"/api/v1{path}", headers={"may": may}, **more)

    return request


BULK = {"action": "quarantine", "ids": ["s-1"]}
ROUTES: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("GET", "/overview/today", "device.read", None),
    ("GET", "/devices", "device.read", None),
    ("GET", "/devices/counts", "device.read", None),
    ("GET", "/devices/s-1/why", "device.read", None),
    ("GET", "/devices/s-1/firmware", "device.read", None),
    ("POST", "/devices/bulk", "device.read device.quarantine", BULK),
    ("POST", "/events/1/acknowledge", "event.acknowledge", {"note": "seen"}),
    ("GET", "/filters", "filter.manage", None),
    ("POST", "/filters", "filter.manage", {"name": "mine", "filter": {"state": "active"}}),
    ("GET", "/settings/checklist", "settings.read", None),
]


@pytest.mark.parametrize(("method", "path", "permissions", "body"), ROUTES)
def test_every_route_asks_for_its_permissions(
    ask: Ask, method: str, path: str, permissions: str, body: dict[str, Any] | None
) -> None:
    more = {} if body is None else {"json": body}
    assert ask(method, path, "model.read", **more).status_code == 403
    for one in permissions.split()[:-1]:
        assert ask(method, path, one, **more).status_code == 403
    assert ask(method, path, permissions, **more).status_code in (200, 201)


def test_today_leaves_out_cards_of_closed_rooms(ask: Ask, fleet: Fleet) -> None:
    add_administrator(fleet)
    fleet.tell("s-1", "boot.refused", "slot a")

    def kinds(may: str) -> list[str]:
        return [card["kind"] for card in ask("GET", "/overview/today", may).json()["cards"]]

    assert kinds("device.read") == ["updates_stuck"]
    assert kinds("device.read event.read") == ["updates_stuck", "alerts"]
    assert kinds("device.read operator.read") == ["updates_stuck", "people_without_spare"]


def test_pages_sort_filter_and_jump(ask: Ask) -> None:
    def ids(query: str) -> list[str]:
        return [one["id"] for one in ask("GET", f"/devices?{query}", "device.read").json()["devices"]]

    assert ids("sort=-id") == ["s-2", "s-1"]
    assert ids("at=1") == ["s-2"]
    assert ids("firmware=") == ["s-1", "s-2"]
    assert ids("firmware=9.9") == []
    page = ask("GET", "/devices?sort=state&limit=1", "device.read").json()
    assert page["next_after"] == "active~s-1"
    assert ids(f"sort=state&limit=1&after={page['next_after']}") == ["s-2"]
    for query in ("sort=price", "at=-1", "sort=changed&after=x", "sort=changed&after=x~s-1"):
        assert ask("GET", f"/devices?{query}", "device.read").status_code == 400, query


def test_counts_are_found_beside_devices(ask: Ask) -> None:
    assert ask("GET", f"/devices/counts?model={SENSOR}", "device.read").json() == {
        "total": 2, "by_state": {"active": 2}, "by_model": {SENSOR: 2}, "by_firmware": {"": 2},
        "by_group": {"default": 2},
    }  # fmt: skip


def test_why_answers_each_question_with_facts(ask: Ask) -> None:
    found = ask("GET", "/devices/s-1/why", "device.read").json()
    assert [one["question"] for one in found["questions"]] == ["connected", "not_updating", "no_video"]
    assert {
        "what": "session",
        "value": "since 2026-06-01 12:00:00 UTC from an unknown address",
        "good": True,
    } in (found["questions"][0]["facts"])
    assert ask("GET", "/devices/s-2/why", "device.read").json()["questions"][0]["question"] == "offline"
    assert ask("GET", "/devices/ghost/why", "device.read").status_code == 404


def test_firmware_shows_slots_trial_and_releases(ask: Ask, fleet: Fleet) -> None:
    fleet.publisher.publish("1.0.0", b"one", model=SENSOR)
    fleet.publisher.publish("1.1.0", b"two", model=SENSOR)
    slots = {"running": "b", "confirmed": "a", "trial": "b", "tries_left": 2,
             "versions": {"a": "1.0.0", "b": "1.1.0"}}  # fmt: skip
    fleet.report_firmware("s-1", version="1.1.0", state="trial", slots=slots)
    fleet.tell("s-1", "update.confirmed", "well", severity="notice")
    found = ask("GET", "/devices/s-1/firmware", "device.read").json()
    assert found["active"] == {"slot": "b", "version": "1.1.0"}
    assert found["inactive"] == {"slot": "a", "version": "1.0.0"}
    assert found["trial"] == {"slot": "b", "version": "1.1.0", "tries_left": 2}
    assert found["current_release"]["version"] == found["wanted_release"]["version"] == "1.1.0"
    assert found["last_report"]["state"] == "trial"
    assert [one["kind"] for one in found["history"]] == ["update.confirmed"]
    assert (found["running"], found["proven"]) == ("1.1.0", False)


@pytest.mark.parametrize(
    "section",
    [{}, {"version": 7, "slots": [], "state": {}},
     {"slots": {"running": "z", "versions": "none", "trial": 1}},
     {"slots": {"running": "a", "versions": {"a": ["x"]}, "trial": "b", "tries_left": "many"}},
     {"progress": -1, "error": ["x"]}],
)  # fmt: skip
def test_whatever_a_device_reports_is_shown_or_left_out(
    ask: Ask, fleet: Fleet, section: dict[str, Any]
) -> None:
    fleet.report_firmware("s-1", **section)
    assert ask("GET", "/devices/s-1/firmware", "device.read").status_code == 200
    assert ask("GET", "/devices/s-1/why", "device.read").status_code == 200


def test_bulk_shows_first_and_acts_on_apply(ask: Ask) -> None:
    body = {"action": "quarantine", "filter": {"search": "s-"}, "reason": "drill"}
    may = "device.read device.quarantine"
    shown = ask("POST", "/devices/bulk", may, json=body).json()
    assert (shown["matching"], shown["will_change"], shown["applied"]) == (2, 2, False)
    assert ask("GET", "/devices/s-1", "device.read").json()["state"] == "active"
    stale = ask("POST", "/devices/bulk", may, json={**body, "apply": True, "expected": 1})
    assert stale.status_code == 409
    done = ask("POST", "/devices/bulk", may, json={**body, "apply": True, "expected": 2}).json()
    assert (done["will_change"], done["applied"]) == (2, True)
    assert ask("GET", "/devices/s-1", "device.read").json()["state_reason"] == "drill"


@pytest.mark.parametrize(
    "body",
    [{"action": "quarantine"}, {"action": "quarantine", "ids": ["s-1"], "filter": {}},
     {"action": "explode", "ids": []}, {"action": "command", "ids": ["s-1"]},
     {"action": "release", "ids": [], "command": {"name": "ping"}},
     {"action": "quarantine", "filter": {"colour": "red"}},
     {"action": "command", "ids": ["s-1"], "command": {"name": "Rm"}}],
)  # fmt: skip
def test_a_bad_bulk_request_is_refused(ask: Ask, body: dict[str, Any]) -> None:
    may = "device.read device.quarantine device.release command.run"
    assert ask("POST", "/devices/bulk", may, json=body).status_code == 400


def test_a_filter_is_saved_listed_and_deleted(ask: Ask) -> None:
    made = ask(
        "POST", "/filters", "filter.manage", json={"name": "mine", "filter": {"state": "active"}}
    ).json()
    assert ask("GET", "/filters", "filter.manage").json() == [made]
    assert ask("DELETE", f"/filters/{made['id']}", "filter.manage").status_code == 204
    assert ask("DELETE", f"/filters/{made['id']}", "filter.manage").status_code == 404


def test_the_checklist_says_what_it_found(ask: Ask, fleet: Fleet, tmp_path: Path) -> None:
    add_administrator(fleet)

    def states() -> dict[str, str]:
        found = ask("GET", "/settings/checklist", "settings.read").json()
        assert all(one["fix"] for one in found if one["state"] != "ok"), "what is wrong says how to mend it"
        assert {one["id"] for one in found} == {name for one in checks_of(DOORS) for name in one.ids}
        assert [one["state"] for one in found] == sorted(
            (one["state"] for one in found), key=["fail", "warn", "ok"].index
        ), "in the order to work through it"
        return {one["id"]: one["state"] for one in found}

    found = states()
    assert found["root_key_offline"] == found["update_root_offline"] == "warn"
    assert found["models_attested"] == "warn"
    assert found["administrators"] == found["spare_factor"] == "warn"
    assert found["passkeys"] == "warn"
    assert found["authority_expiry"] == found["files_private"] == "ok"
    (tmp_path / "offline/root.key.pem").unlink()
    (tmp_path / "keys/device-ca.pem").chmod(stat.S_IRUSR | stat.S_IRGRP)
    found = states()
    assert (found["root_key_offline"], found["files_private"]) == ("ok", "fail")


def test_who_works_in_one_group_sees_and_changes_that_one(tmp_path: Path, clock: ManualClock) -> None:
    with running_console(make_platform(tmp_path), clock) as console:
        officer = console.person("olga", (Role.SECURITY_OFFICER, "cams"))
        viewer = console.person("vera", (Role.VIEWER, "*"))
        assert officer.get("/devices/counts").json()["by_group"] == {"cams": 1}
        assert officer.get("/devices/door-1/why").status_code == 404
        body = {"action": "retire", "filter": {}, "reason": "drill"}
        assert viewer.post("/devices/bulk", body).status_code == 403
        assert officer.post("/devices/bulk", {**body, "apply": True}).json()["devices"] == ["cam-1"]
        ids = {**body, "action": "quarantine", "ids": ["door-1"]}
        del ids["filter"]
        assert officer.post("/devices/bulk", ids).json()["skipped"] == [
            {"id": "door-1", "why": "no such device"}
        ]
        assert viewer.get("/devices/door-1").json()["state"] == "active"
        alert = console.local.get("/events?device=door-1").json()["events"][0]["id"]
        assert officer.post(f"/events/{alert}/acknowledge", {"note": ""}).status_code == 404


def test_revoking_many_asks_for_two_factors_given_just_now(tmp_path: Path, clock: ManualClock) -> None:
    with running_console(make_platform(tmp_path), clock) as console:
        officer = console.person("olga", (Role.SECURITY_OFFICER, "*"), has_mfa=False)
        body = {"action": "revoke", "ids": ["cam-1", "door-1"], "reason": "drill"}
        assert officer.post("/devices/bulk", body).json()["will_change"] == 2
        refused = officer.post("/devices/bulk", {**body, "apply": True})
        assert (refused.status_code, refused.json()["code"]) == (403, "step_up_required")
        fresh = console.sign_in("olga")
        assert fresh.post("/devices/bulk", {**body, "apply": True}).json()["applied"] is True


def test_the_front_page_shows_each_role_its_own_cards(tmp_path: Path, clock: ManualClock) -> None:
    with running_console(make_platform(tmp_path), clock) as console:
        viewer = console.person("vera", (Role.VIEWER, "*"))
        officer = console.person("olga", (Role.SECURITY_OFFICER, "*"))

        def kinds(caller: Caller) -> set[str]:
            return {card["kind"] for card in caller.get("/overview/today").json()["cards"]}

        assert "people_without_spare" not in kinds(viewer)
        assert "people_without_spare" in kinds(officer)
