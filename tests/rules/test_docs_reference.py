"""What the reference pages list is what the code has."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import msgspec

from fleetward.base import agent_config as agent
from fleetward.base.config import Nats, Ports, ServerConfig
from fleetward.programs.agent.abilities.all import SECTIONS
from fleetward.programs.server.doors import SETTINGS

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_is_documented() -> None:
    page = (DOCS / "reference/config.md").read_text()
    sections: dict[str, type[msgspec.Struct]] = {
        "ports": Ports,
        "nats": Nats,
        **{one.name: one.kind for one in SETTINGS},
    }
    own = [field.name for field in msgspec.structs.fields(ServerConfig)]
    names = [name for name in own if name not in sections and name != "sections"]
    names += [
        f"{section}.{field.name}"
        for section, kind in sections.items()
        for field in msgspec.structs.fields(kind)
    ]
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_every_setting_of_a_device_is_documented() -> None:
    page = (DOCS / "reference/agent-config.md").read_text()
    sections: dict[str, tuple[type[msgspec.Struct], ...]] = {
        "keys": get_args(agent.Keys),
        "spool": (agent.SpoolLimits,),
        **{section.table: (section,) for section in SECTIONS},
    }
    found = {field.name for field in msgspec.structs.fields(agent.AgentConfig)} - {"sections"}
    found |= {section.table for section in SECTIONS}
    found |= {
        f"{section}.{field.name}"
        for section, kinds in sections.items()
        for kind in kinds
        for field in msgspec.structs.fields(kind)
    }
    kinds = {kind.__struct_config__.tag for kind in sections["keys"]}
    assert {name for name in found if f"| `{name}` |" not in page} == set()
    assert {kind for kind in kinds if f'`kind = "{kind}"`' not in page} == set()
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE))
    assert documented - found == {"keys.kind"}


def test_the_example_of_a_devices_settings_is_one(tmp_path: Path) -> None:
    page = (DOCS / "reference/agent-config.md").read_text()
    [example] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    agent.parse_agent_config(example.encode(), source=tmp_path / "agent.toml", sections=SECTIONS)


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    page = (DOCS / "dependencies.md").read_text()
    wanted = [
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *(one for group in project["dependency-groups"].values() for one in group if isinstance(one, str)),
        *project["build-system"]["requires"],
    ]
    names = {re.split(r"[\[<>=!~; ]", one)[0].lower() for one in wanted}
    told = {name for name in names if re.search(rf"(?<![a-z-]){re.escape(name)}(?![a-z-])", page)}
    assert names - told == set()


def test_every_test_and_source_a_page_names_is_there() -> None:
    gone = [
        f"{page.relative_to(DOCS.parent)}: {path}"
        for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
        for path in re.findall(r"`((?:tests|src|deploy|docs)/[\w./-]+\w)`", page.read_text())
        if not (DOCS.parent / path).exists()
    ]
    assert gone == []


def test_the_command_line_page_is_what_the_commands_say() -> None:
    """In a process of its own: click remembers how a command was last asked for its help."""
    command = [sys.executable, "-m", "support.cli_reference"]
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent / "tests")}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    page = (DOCS / "reference/cli.md").read_text()
    assert page == said, "run: PYTHONPATH=tests python -m support.cli_reference > docs/reference/cli.md"


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(DOCS.parent)}: {link}"
        for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert broken == []
