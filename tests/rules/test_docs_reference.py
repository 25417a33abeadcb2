"""What the reference pages list is what the code has."""

import re
from pathlib import Path

import msgspec

from fleetward.base.config import Media, Nats, Ports, ServerConfig
from support.cli_reference import render

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_is_documented() -> None:
    page = (DOCS / "reference/config.md").read_text()
    sections: dict[str, type[msgspec.Struct]] = {"ports": Ports, "nats": Nats, "media": Media}
    names = [field.name for field in msgspec.structs.fields(ServerConfig) if field.name not in sections]
    names += [
        f"{section}.{field.name}"
        for section, kind in sections.items()
        for field in msgspec.structs.fields(kind)
    ]
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_the_command_line_page_is_what_the_commands_say() -> None:
    page = (DOCS / "reference/cli.md").read_text()
    assert page == render(), "run: PYTHONPATH=tests python -m support.cli_reference > docs/reference/cli.md"


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(DOCS.parent)}: {link}"
        for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert broken == []
