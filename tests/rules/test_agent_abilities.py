"""What holds of each ability in the list: its name, its commands in the reference, that it knows no other."""

import ast
import re
from pathlib import Path

import pytest

import fleetward.programs.agent.abilities as room
from fleetward.programs.agent import orders
from fleetward.programs.agent.abilities.ability import Ability
from fleetward.programs.agent.abilities.all import ABILITIES, SECTIONS

DOCS = Path(__file__).parents[2] / "docs"
ROOM = room.__name__
_SHARED = {f"{ROOM}.ability"}


def place_of(ability: type[Ability]) -> str:
    """Return the file or folder of an ability, as a module."""
    return ".".join(ability.__module__.split(".")[: ROOM.count(".") + 2])


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
    return found


@pytest.mark.parametrize("ability", ABILITIES, ids=lambda ability: ability.name)
def test_an_ability_knows_no_other(ability: type[Ability]) -> None:
    folder = Path(room.__path__[0])
    place = place_of(ability)
    own = folder / place.removeprefix(f"{ROOM}.").replace(".", "/")
    files = list(own.rglob("*.py")) if own.is_dir() else [own.with_suffix(".py")]
    assert files
    imported = {name for file in files for name in imports_of(file) if name.startswith(f"{ROOM}.")}
    allowed = (*_SHARED, place)
    assert [one for one in imported if not any(f"{one}.".startswith(f"{two}.") for two in allowed)] == []


def test_all_abilities_of_the_room_are_in_the_list() -> None:
    folder = Path(room.__path__[0])
    places = {
        path.stem
        for path in folder.iterdir()
        if path.stem not in ("__init__", "__pycache__", "ability", "all")
    }
    assert {place_of(ability).rpartition(".")[2] for ability in ABILITIES} == places


def test_names_are_words_and_none_is_the_cores() -> None:
    cores = {"state", "device_id", "version", "degraded", "updated_at", "clock_corrected", "keys",
             "enrollment", "session", "queue"}  # fmt: skip
    names = [ability.name for ability in ABILITIES]
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z_]*", name)] == []
    assert cores & {*names} == set()
    assert len(SECTIONS) == len({section.table for section in SECTIONS})


def test_every_command_is_in_the_reference() -> None:
    commands = {name for ability in ABILITIES for name in ability.commands} | orders.NAMES
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    assert {name for name in commands if f"`{name}`" not in pages} == set()
