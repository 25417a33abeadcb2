"""What the doors say, as the reference page prints it (PYTHONPATH=tests python -m support.doors)."""

from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa

from fleetward.base.db import Database
from fleetward.base.events import Severity, events_table
from fleetward.base.feature import EventKind, Feature
from fleetward.programs.server.doors import DOORS, EVENT_KINDS

# Kinds that tests of the feed itself make up.
_MADE_UP = "test."
PAGE = Path(__file__).parents[2] / "docs/reference/http.md"
_EVENTS_HEAD = "| kind | severity | what |\n|---|---|---|\n"
_BOARD_HEAD = "| name | where | permission |\n|---|---|---|\n"


def severities_of(kind: EventKind) -> frozenset[Severity]:
    """Return every severity that an event of a kind may have."""
    return kind.or_severities | {kind.severity}


def find_undeclared(db: Database) -> list[tuple[str, str]]:
    """Return kind and severity of each event in a feed that no door declares, but for those of tests alone.

    A feed that a test damaged has none.
    """
    query = sa.select(events_table.c.kind, events_table.c.severity).distinct()
    try:
        with db.engine.connect() as conn:
            found = [(row.kind, row.severity) for row in conn.execute(query)]
    except sa.exc.DBAPIError:
        return []
    return [one for one in found if not one[0].startswith(_MADE_UP) and not _is_declared(*one)]


def _is_declared(kind: str, severity: str) -> bool:
    return kind in EVENT_KINDS and Severity(severity) in severities_of(EVENT_KINDS[kind])


def render_events(doors: Iterable[Feature]) -> str:
    """Return the table of all kinds of events."""
    kinds = [kind for door in doors for kind in door.events]
    rows = [f"| `{kind.name}` | {_severity_of(kind)} | {kind.meaning} |\n" for kind in kinds]
    return _EVENTS_HEAD + "".join(rows)


def render_board(doors: Iterable[Feature]) -> str:
    """Return the table of all cards of the front page and points of the checklist."""
    doors = tuple(doors)
    cards = [(kind, "card", one.permission) for door in doors for one in door.cards for kind in one.kinds]
    points = [(name, "point", "settings.read") for door in doors for one in door.checks for name in one.ids]
    return _BOARD_HEAD + "".join(f"| `{a}` | {b} | `{c}` |\n" for a, b, c in [*cards, *points])


def with_tables(page: str, doors: Iterable[Feature]) -> str:
    """Return a page with the tables as the doors have them."""
    doors = tuple(doors)
    for head, table in ((_EVENTS_HEAD, render_events(doors)), (_BOARD_HEAD, render_board(doors))):
        before, rest = page.split(head)
        page = before + table + rest[rest.index("\n\n") + 1 :]
    return page


def _severity_of(kind: EventKind) -> str:
    if kind.or_severities >= set(Severity):
        return "the device's"
    return ", ".join(one for one in Severity if one in severities_of(kind))


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(), DOORS))
