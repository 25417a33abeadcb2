"""A feature comes in by its door alone: nobody else has to know of its parts."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

import msgspec
import pytest
import sqlalchemy as sa
from fastapi import APIRouter, Request

from fleetward.base.coap import CoapAnswer, CoapRequest, Code
from fleetward.base.config import Ports, Section, parse_config
from fleetward.base.db import Tx
from fleetward.base.errors import ConfigError, InvalidInputError
from fleetward.base.feature import (
    CoapResource,
    Feature,
    Forget,
    House,
    Port,
    Role,
    Routes,
    Timer,
)
from fleetward.base.layout import DataFolder
from fleetward.base.permissions import Permission, Reach
from fleetward.base.web import Db, Principal, requires
from fleetward.features.access.model.roles import Role as Held
from fleetward.features.messaging.http import MessagingContext
from fleetward.migrations.runner import migrate
from fleetward.programs.server.build import build_console_app, build_rooms, media_context
from fleetward.programs.server.coap import CoapApp
from fleetward.programs.server.doors import DOORS, settings_of
from fleetward.programs.server.timers import acts_of
from support.clock import ManualClock
from support.console import CONFIG, Caller, Console, QuietArchive, make_platform


class Harbour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    berths: int = 3


def check_harbour(settings: Harbour) -> None:
    if settings.berths < 1:
        raise InvalidInputError(f"harbour.berths: expected at least 1, found {settings.berths}")


router = APIRouter()


@dataclass(frozen=True)
class Tide:
    height_cm: int


@router.get("/tide")
def read_tide(_request: Request, db: Db, _who: Annotated[Principal, requires("tide.read")]) -> Tide:
    with db.read() as tx:
        return Tide(int(tx.conn.execute(sa.text("SELECT count(*) FROM tides")).scalar_one()))


@router.post("/tide")
def write_tide(body: dict[str, Any], _who: Annotated[Principal, requires("tide.turn")]) -> Tide:
    return Tide(len(body))


def rise(house: House) -> None:
    with house.db.write("system:tide") as tx:
        tx.conn.execute(sa.text("INSERT INTO tides VALUES (1)"))


def ebb(tx: Tx) -> None:
    tx.conn.execute(sa.text("DELETE FROM tides"))


async def say_tide(_house: House, request: CoapRequest) -> CoapAnswer:
    return CoapAnswer(Code.CONTENT, request.path[1].encode())


HARBOUR = Feature(
    name="harbour",
    routes=(Routes(router, Port.API, body_limits={"/api/v1/tide": 100}),),
    coap=(CoapResource("GET", "tide/+", say_tide),),
    settings=(Section("harbour", Harbour, check_harbour),),
    permissions=(
        Permission("tide.read", Reach.SHARED, "see the tide"),
        Permission("tide.turn", Reach.FLEET, "turn the tide"),
    ),
    timers=(Timer("tide", 3.0, Role.WORKER, rise),),
    forgets=(Forget("tides", timedelta(hours=6), ebb),),
)
WITH_HARBOUR = (*DOORS, HARBOUR)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    folder = DataFolder(make_platform(tmp_path_factory.mktemp("harbour")))
    clock = ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))
    rooms = build_rooms(folder, CONFIG, Ports(), clock, WITH_HARBOUR)
    migrate(rooms.db)
    with rooms.db.write("system:test") as tx:
        tx.conn.exec_driver_sql("CREATE TABLE tides (height INTEGER)")
    quiet = QuietArchive()
    messaging = MessagingContext(quiet, quiet, quiet)
    app = build_console_app(rooms, messaging, media_context(rooms, cast("Any", None)), lambda _: None)
    with Console.over(app, rooms, clock) as opened:
        yield opened
    rooms.db.close()


@pytest.fixture(scope="module")
def viewer(console: Console) -> Caller:
    return console.person("vic", (Held.VIEWER, "*"))


@pytest.fixture(scope="module")
def admin(console: Console) -> Caller:
    return console.person("ada", (Held.ADMINISTRATOR, "*"))


def test_its_routes_ask_for_its_permissions(console: Console, viewer: Caller, admin: Caller) -> None:
    assert console.stranger.get("/tide").status_code == 401
    assert viewer.get("/tide").json() == {"height_cm": 0}
    assert viewer.post("/tide", {}).status_code == 403
    assert admin.post("/tide", {"a": 1}).json() == {"height_cm": 1}
    assert "tide.turn" in admin.get("/me").json()["permissions"]


def test_its_body_limit_holds(admin: Caller) -> None:
    assert admin.post("/tide", {"a": "x" * 200}).status_code == 413


def test_its_routes_stand_in_the_api_document(console: Console) -> None:
    paths = console.stranger.get("/openapi.json").json()["paths"]
    assert "/api/v1/tide" in paths


def test_its_scopes_are_for_tokens(admin: Caller) -> None:
    made = admin.post("/tokens", {"name": "t", "scopes": ["tide.read"], "expires_in": "1d"})
    assert made.status_code == 201, made.text


def test_its_timer_runs_and_its_rows_are_forgotten(console: Console, viewer: Caller) -> None:
    house = console.rooms.house
    acts = {one.name: one for one in acts_of(console.rooms.doors, house, {Role.WORKER})}
    assert acts["tide"].every_s == 3.0
    acts["tide"].act()
    assert viewer.get("/tide").json() == {"height_cm": 1}
    acts["forget-harbour-tides"].act()
    assert viewer.get("/tide").json() == {"height_cm": 0}


def test_its_resource_answers_over_coap(console: Console) -> None:
    app = CoapApp(console.rooms.house, [one for door in console.rooms.doors for one in door.coap])
    answer = asyncio.run(app(CoapRequest(b"", "GET", ("tide", "now"), None, b"")))
    assert answer == CoapAnswer(Code.CONTENT, b"now")


def test_its_settings_are_read_and_checked() -> None:
    sections = settings_of(WITH_HARBOUR)
    text = b"trust_domain = 'a'\n[harbour]\nberths = 5"
    assert parse_config(text, sections, source="x").get(Harbour) == Harbour(5)
    assert parse_config(b"trust_domain = 'a'", sections, source="x").get(Harbour) == Harbour(3)
    assert parse_config(b"trust_domain = 'a'", sections, source="x").find(Harbour) is None
    for wrong in (b"berths = 0", b"berths = 'many'", b"ships = 1"):
        with pytest.raises(ConfigError, match="harbour"):
            parse_config(b"trust_domain = 'a'\n[harbour]\n" + wrong, sections, source="x")
    with pytest.raises(ConfigError, match="harbour"):
        parse_config(text, settings_of(DOORS), source="x")
