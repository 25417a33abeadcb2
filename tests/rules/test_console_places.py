"""What the console's places name exists: kinds of events, permissions and places, as the doors tell them."""

import re
from collections.abc import Iterator
from pathlib import Path

from fleetward.programs.server.doors import DOORS

_SOURCES = Path(__file__).parents[2] / "console" / "src"
_HEARS = re.compile(r"\bon: \[([^\]]*)\]")
_NAME = r"\"([a-z_]+\.[a-z_]+)\""
_ASKS = re.compile(rf"permission(?:: |=){_NAME}|[cC]an\((?:me, )?{_NAME}")


def _texts(pattern: str) -> list[str]:
    return [path.read_text() for path in _SOURCES.rglob(pattern) if ".test." not in path.name]


def test_every_kind_of_event_that_a_place_hears_is_told_by_a_door() -> None:
    told = [kind.name for door in DOORS for kind in door.events]
    heard = {
        prefix
        for text in _texts("place.ts")
        for kinds in _HEARS.findall(text)
        for prefix in re.findall(r'"([^"]*)"', kinds)
    }
    assert len(heard) > 10
    assert {prefix for prefix in heard if not any(kind.startswith(prefix) for kind in told)} == set()


def test_every_permission_that_the_console_asks_for_is_in_a_door() -> None:
    known = {permission.name for door in DOORS for permission in door.permissions}
    asked = {one or other for text in _texts("*.ts*") for one, other in _ASKS.findall(text)}
    assert len(asked) > 20
    assert asked - known == set()


def test_the_places_of_the_console_are_those_of_the_doors() -> None:
    shown = {path: asks for text in _texts("screens/*/place.ts") for path, asks in _read_places(text)}
    assert len(shown) > 15
    assert shown == {place.path: place.permission for door in DOORS for place in door.places}


def _read_places(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the pages and parts of one place, each with the permission that it asks for."""
    asks = r'\bpermission: (null|"[a-z_.]+")'
    of_all = re.search(asks, text)
    assert of_all is not None
    pages, _, tabs = text.partition("tabs: [")
    for page in pages.split("createRoute(")[1:]:
        path = re.search(r'path: "([^"]+)"', page)
        assert path is not None
        yield path[1], _permission(re.search(asks, page) or of_all)
    for tab in tabs.split("part: ")[1:]:
        own = re.search(asks, tab)
        assert own is not None
        name = tab.split('"')[1]
        yield f"/devices/$id?part={name}", _permission(own)


def _permission(found: re.Match[str]) -> str | None:
    return None if found[1] == "null" else found[1].strip('"')
