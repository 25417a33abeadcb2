"""How answers are shown: a table for people, JSON with `--json`.

What is shown was often said by strangers and devices: a path somebody asked for, a version, a topic. Nothing
of it reaches a terminal that the terminal would obey, or that would turn the text around: all output goes
through `say`, and each value through `visible`.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_COLOUR_OF = {
    "active": "green", "enrolled": "cyan", "registered": "blue", "quarantined": "yellow", "revoked": "red",
    "retired": "bright_black", "info": "cyan", "notice": "blue", "warning": "yellow", "critical": "red",
}  # fmt: skip


# What click.style makes of the colours above, bold and their end; nothing that hides, moves or asks.
_OURS = re.compile(r"(\x1b\[(?:0|1|2|3[1-6]|9[0-7])m)")


def visible(text: str, *, keep: str = "") -> str:
    r"""Return text with each character that is not printable, or that has no shape of its own, as `\x1b`.

    Args:
        keep: such characters that may stay.
    """
    return "".join(
        one if one in keep or not _is_unseen(one) else one.encode("unicode_escape").decode() for one in text
    )


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text of any origin: colours of ours stay, every other control character becomes visible."""
    parts = _OURS.split(text)
    shown = [part if number % 2 else visible(part, keep="\n\t") for number, part in enumerate(parts)]
    click.echo("".join(shown), err=err, nl=nl)


def _is_unseen(one: str) -> bool:
    return unicodedata.category(one)[0] == "C" or one in "\u2028\u2029"


def json_option(command: Command) -> Command:
    """Add `--json` to a command, as parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(value: object) -> None:
    click.echo(json.dumps(value).replace("\x7f", "\\u007f"))  # all else that is not printable, JSON escapes


def print_table(rows: Sequence[dict[str, Any]], columns: dict[str, str], *, empty: str) -> None:
    """Print rows as a table that fits the terminal; `columns` maps keys to headings."""
    if not rows:
        say(empty)
        return
    from rich.console import Console  # noqa: PLC0415 - 40 ms that JSON output need not pay
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, heading in enumerate(columns.values()):
        # What names the row stays in one piece, to be copied.
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    Console().print(table)


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
    """Return a state or severity in its colour, other text as it is."""
    colour = _COLOUR_OF.get(text)
    return click.style(text, fg=colour) if colour else text


def _cell(value: object) -> str:
    from rich.markup import escape  # noqa: PLC0415

    text = "" if value is None else visible(str(value))
    colour = _COLOUR_OF.get(text)
    return f"[{colour}]{text}[/]" if colour else escape(text)
