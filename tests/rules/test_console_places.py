"""What the console's places name exists: kinds of events, and permissions, as the doors tell them."""

import re
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
