"""Every feature has a door in the list of doors, and what is used anywhere stands in a door."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fleetward.features
from fleetward.base.events import Severity
from fleetward.base.feature import About
from fleetward.programs.server.doors import DOORS, EVENT_KINDS
from support.doors import PAGE, severities_of, with_tables

FEATURES = Path(str(fleetward.features.__file__)).parent
SOURCES = sorted(FEATURES.parent.rglob("*.py"))
EMITS = [
    (path, node)
    for path in SOURCES
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "emit"
]


def test_every_folder_of_a_feature_has_its_door_in_the_list() -> None:
    folders = {path.name for path in FEATURES.iterdir() if any(path.glob("*.py"))}
    assert {door.name for door in DOORS} == folders | {"platform"}


def test_a_folder_whose_door_is_forgotten_is_noticed() -> None:
    """The list is read against the folders, so that the rule above cannot pass by an empty list."""
    assert len(DOORS) == len({door.name for door in DOORS}) > 10


def test_doors_stand_in_the_order_of_imports() -> None:
    import_order = re.search(
        r'name = "Features import only those to their left"\ntype = "layers"\nlayers = \[([^]]*)\]',
        (FEATURES.parents[2] / "pyproject.toml").read_text(),
    )
    assert import_order is not None
    lowest_first = re.findall(r'"(\w+)"', import_order[1])[::-1]
    assert [door.name for door in DOORS if door.name != "platform"] == lowest_first


def test_what_a_door_names_no_other_door_names() -> None:
    def doubled(names: Iterator[str]) -> list[str]:
        return [name for name, times in Counter(names).items() if times > 1]

    assert doubled(one.name for door in DOORS for one in door.permissions) == []
    assert doubled(one.name for door in DOORS for one in door.events) == []
    assert doubled(one.name for door in DOORS for one in door.timers) == []
    assert doubled(one.name for door in DOORS for one in door.hears) == []
    assert doubled(one.name for door in DOORS for one in door.settings) == []
    assert doubled(kind for door in DOORS for one in door.cards for kind in one.kinds) == []
    assert doubled(name for door in DOORS for one in door.checks for name in one.ids) == []
    assert doubled(one.path for door in DOORS for one in door.places) == []
    assert doubled(f"{door.name}-{one.name}" for door in DOORS for one in door.forgets) == []


def test_what_a_feature_hears_is_told_by_some_door() -> None:
    assert {kind for door in DOORS for one in door.hears for kind in one.kinds} <= set(EVENT_KINDS)


def test_every_kind_that_is_emitted_stands_in_a_door() -> None:
    literal = {kind for _, call in EMITS if (kind := _text(call.args[1])) is not None}
    assert "certificate.issued" in literal
    assert literal - set(EVENT_KINDS) == set()


def test_every_severity_is_one_that_the_door_says() -> None:
    wrong = [
        f"{path.name}: {kind} as {severity}"
        for path, call in EMITS
        if (kind := _text(call.args[1])) in EVENT_KINDS and kind is not None
        for severity in _severities(call)
        if severity not in severities_of(EVENT_KINDS[kind])
    ]
    assert wrong == []


def test_an_event_about_a_device_names_it() -> None:
    nameless = [
        f"{path.name}: {kind}"
        for path, call in EMITS
        if (kind := _text(call.args[1])) in EVENT_KINDS and kind is not None
        if EVENT_KINDS[kind].about is About.DEVICE and "device" not in {one.arg for one in call.keywords}
    ]
    assert nameless == []


def test_kinds_are_named_noun_and_past() -> None:
    assert [kind for kind in EVENT_KINDS if not re.fullmatch(r"[a-z_]+\.[a-z_]+", kind)] == []


def test_a_device_may_tell_only_what_is_about_it() -> None:
    told = {kind.name for kind in EVENT_KINDS.values() if kind.may_device_say}
    assert {EVENT_KINDS[name].about for name in told} == {About.DEVICE}
    assert {name.partition(".")[0] for name in told} == {"update", "boot", "agent"}


def test_cards_and_places_ask_for_permissions_that_exist() -> None:
    known = {one.name for door in DOORS for one in door.permissions}
    asked = [one.permission for door in DOORS for one in door.cards]
    places = [one.permission for door in DOORS for one in door.places if one.permission is not None]
    assert asked
    assert set(asked) | set(places) <= known


def test_the_page_lists_the_kinds_as_the_doors_do() -> None:
    page = PAGE.read_text()
    assert page == with_tables(page, DOORS), "run: PYTHONPATH=tests python -m support.doors"


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _severities(call: ast.Call) -> set[Severity]:
    """Return every severity that a call names; those computed elsewhere are checked as events are written."""
    given = [one.value for one in call.keywords if one.arg == "severity"]
    if not given:
        return {Severity.INFO}
    nodes = [node for node in ast.walk(given[0]) if isinstance(node, ast.Attribute)]
    return {Severity[node.attr] for node in nodes if ast.unparse(node.value) == "Severity"}
