"""Nothing that strangers or devices said is obeyed by an operator's terminal."""

import io
import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.terminal import say, visible
from fleetward.programs.cli import output
from fleetward.programs.cli.main import _COMMANDS, cli
from fleetward.programs.cli.output import print_facts, print_json, print_table

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x1b[8m\r\n\u202eevil\u2066\x9b31m\x7f\u2028z\ud800"
COLOURS = re.compile(r"\x1b\[(?:0|1|2|3[1-6]|9[0-7])m")


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    found = capsys.readouterr()
    return found.out + found.err


def unseen(text: str) -> set[str]:
    return {one for one in COLOURS.sub("", text) if unicodedata.category(one)[0] == "C"} - {"\n", "\t"}


@given(st.text())
def test_a_value_has_only_what_can_be_seen(text: str) -> None:
    found = visible(text)
    assert all(unicodedata.category(one)[0] != "C" and one not in "\u2028\u2029" for one in found)
    if all(one.isprintable() for one in text):
        assert found == text


def test_what_cannot_be_seen_becomes_a_mark() -> None:
    assert visible("\x1b[2J\u202e\n") == r"\x1b[2J\u202e\n"


@pytest.mark.parametrize("err", [False, True])
def test_colours_of_ours_stay_and_no_other_order_does(
    capsys: pytest.CaptureFixture[str], *, err: bool
) -> None:
    say(f"{click.style('ok', fg='green', bold=True)}\n{HOSTILE}", err=err)
    found = shown(capsys)
    assert unseen(found) == set()
    assert "\\x1b[8m" in found, "what hides text is not a colour of ours"


def test_facts_and_tables_keep_a_value_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"version": HOSTILE})
    print_table([{"id": HOSTILE}], {"id": "Device"}, empty="")
    found = shown(capsys)
    assert unseen(found) == set()
    assert not any(line.startswith("evil") for line in found.splitlines())


def test_json_has_nothing_raw(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"said": HOSTILE})
    found = shown(capsys)
    assert found.rstrip("\n").isprintable()
    assert json.loads(found)["said"] == HOSTILE


def test_the_command_line_prints_by_no_other_way() -> None:
    """`click.echo` shows what it is given; one line of JSON is escaped by itself."""
    folder = Path(output.__file__).parent
    found = {
        f"{path.name}: {line.strip()}"
        for path in folder.glob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"click\.(?:echo|secho|echo_via_pager)\(|\bprint\(", line)
    }
    assert {one for one in found if not one.startswith("output.py") and "json.dumps" not in one} == set()


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], *, encoding: str = "utf-8") -> str:
    """Return what a terminal of 60 columns is sent."""
    raw = io.BytesIO()
    terminal = Terminal(raw, encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((60, 24)))
    act()
    terminal.flush()
    return raw.getvalue().decode(encoding)


ROWS = [{"id": "cam-1", "state": "active", "why": "w" * 100}]
COLUMNS = {"id": "Device", "state": "State", "why": "Why"}


def show_rows(more: int = 0) -> None:
    print_table(ROWS, COLUMNS, empty="", more=more)


def test_a_terminal_gets_colours_and_another_program_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show_rows()
    assert capsys.readouterr().out == f"Device\tState\tWhy\ncam-1\tactive\t{'w' * 100}\n"
    said = on_terminal(monkeypatch, show_rows)
    assert "\x1b[32mactive" in said
    assert all(len(COLOURS.sub("", line)) <= 60 for line in said.splitlines())


def test_who_wants_no_colour_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in on_terminal(monkeypatch, show_rows)


def test_a_terminal_of_ascii_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    def show() -> None:
        show_rows()
        say("für …")

    said = on_terminal(monkeypatch, show, encoding="ascii")
    assert "w...w" in said
    assert "f\\xfcr ..." in said


def test_a_table_says_how_many_more_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "… 4,978 more" in on_terminal(monkeypatch, lambda: show_rows(4_978))
    assert "more" not in on_terminal(monkeypatch, show_rows)


def test_help_is_not_cut() -> None:
    for name in _COMMANDS:
        group = cli.get_command(click.Context(cli), name)
        if isinstance(group, click.Group):
            said = CliRunner().invoke(group, ["--help"]).output.partition("Commands:")[2]
            assert "..." not in said, name
            assert len(group.commands) > 0
