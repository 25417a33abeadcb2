"""How answers are shown: a table for people, JSON with `--json`.

What is shown was often said by strangers and devices: a path somebody asked for, a version, a topic. Nothing
of it reaches a terminal that the terminal would obey, or that would turn the text around: all output goes
through `say`, and each value through `visible`.
"""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from fleetward.base.terminal import say, visible
from fleetward.programs.cli.table import GAP, lay_out, render_plain

Command = TypeVar("Command", bound=Callable[..., Any])

_COLOUR_OF = {
    "active": "green", "enrolled": "cyan", "registered": "blue", "quarantined": "yellow", "revoked": "red",
    "retired": "bright_black", "info": "cyan", "notice": "blue", "warning": "yellow", "critical": "red",
}  # fmt: skip


def json_option(command: Command) -> Command:
    """Add `--json` to a command, as parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(value: object) -> None:
    click.echo(json.dumps(value).replace("\x7f", "\\u007f"))  # all else that is not printable, JSON escapes


def print_table(
    rows: Sequence[dict[str, Any]], columns: dict[str, str], *, empty: str, more: int = 0
) -> None:
    """Print rows as a table that fits the terminal, or, to another program, whole and between tabs.

    Args:
        columns: maps keys to headings; the first names the row.
        more: how many rows there are beside these.
    """
    if not rows:
        say(empty)
        return
    headings = list(columns.values())
    cells = [["" if row.get(key) is None else visible(str(row[key])) for key in columns] for row in rows]
    if not sys.stdout.isatty():
        say("\n".join(render_plain(headings, cells)))
        return
    laid = lay_out(headings, cells, shutil.get_terminal_size().columns)
    head, *body = laid.lines
    lines = [click.style(GAP.join(head).rstrip(), bold=True)]
    lines += [GAP.join(paint(cell) for cell in row).rstrip() for row in body]
    say("\n".join(lines))
    if more:
        say(f"… {more:,} more: give --limit, narrow them down, or take --json.")
    if laid.left_out:
        say(f"Left out for want of room: {', '.join(laid.left_out)}. --json has all.", err=True)


def print_facts(facts: dict[str, Any]) -> None:
    """Print one thing as aligned name and value lines; absent values are left out."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        if value not in (None, ""):
            say(f"{click.style(name.ljust(width), bold=True)}  {paint(visible(str(value)))}")


def show_time(rendered: str) -> str:
    """Return a time of the API, such as `2026-06-01T12:00:00.000Z`, as people read it, in UTC."""
    return rendered[:19].replace("T", " ")


def paint(text: str) -> str:
    """Return a state or severity in its colour, spaces after it aside, other text as it is."""
    colour = _COLOUR_OF.get(text.rstrip())
    return click.style(text, fg=colour) if colour else text
