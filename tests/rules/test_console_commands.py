"""Every command that the console shows exists."""

import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_SHOWN = re.compile(r"fleetward ([a-z][a-z-]+(?: [a-z][a-z-]+)?)")
_SECTION = re.compile(r"^## `fleetward (.+)`$", re.MULTILINE)


def test_every_command_the_console_shows_is_in_the_reference() -> None:
    known = set(_SECTION.findall((_ROOT / "docs" / "reference" / "cli.md").read_text()))
    shown = {
        command
        for path in (_ROOT / "console" / "src").rglob("*.ts*")
        if ".test." not in path.name
        for command in _SHOWN.findall(path.read_text())
    }
    assert len(shown) > 15
    assert {command for command in shown if not _is_known(command, known)} == set()


def _is_known(command: str, known: set[str]) -> bool:
    """A command, one with an argument after it, or the beginning of one whose rest the console fills in."""
    first = command.partition(" ")[0]
    return bool({command, first} & known) or any(name.startswith(f"{command} ") for name in known)
