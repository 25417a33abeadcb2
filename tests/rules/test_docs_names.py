"""What the pages name exists: commands with their options, files, anchors, kinds, permissions, settings."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec
import pytest

from fleetward.programs.agent.abilities.all import SECTIONS
from fleetward.programs.cli.main import cli
from fleetward.programs.server.doors import CATALOGUE, EVENT_KINDS, SETTINGS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
# What is ahead of `fleetward` on a line that people type.
_TYPED = re.compile(r"^(?:\$ )?(?:sudo -u \S+ )?(?:/opt/fleetward/bin/|\.venv/bin/)?(?:fleetward|fw) ")
# Not a command: what a device's signed time begins with.
_NO_COMMAND = "signed time 1"
_ENDINGS = ("toml", "json", "jsonl", "md", "py", "ts", "lock", "token", "pem", "style", "local", "js")


def _blocks(page: Path) -> list[str]:
    return re.findall(r"^ *```[a-z]*\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)


def _prose(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def _commands(page: Path) -> list[str]:
    """Return what follows `fleetward` in each line that is typed, and in each command in the prose."""
    lines = [line.strip() for block in _blocks(page) for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    lines += [one.replace("\n", " ") for one in re.findall(r"`((?:fleetward|fw) [a-z-][^`]+)`", _prose(page))]
    return [_TYPED.sub("", line) for line in lines if _TYPED.match(line)]


def _wrong(line: str) -> str:
    """Return what is wrong with a command line, "" for nothing. Values are not judged."""
    words = shlex.split(line.replace("…", "X"), comments=True)
    ends = next((place for place, word in enumerate(words) if word in {"|", ">", "&"}), len(words))
    command: click.Command = cli
    context, rest = click.Context(cli, info_name="fleetward"), words[:ends]
    while isinstance(command, click.Group):
        parser = command.make_parser(context)
        parser.allow_interspersed_args = False
        _, rest, _ = parser.parse_args(rest)
        if not rest:
            return ""
        found = command.get_command(context, rest[0])
        if found is None:
            return f"no command {rest[0]!r}"
        context = click.Context(found, info_name=rest[0], parent=context)
        command, rest = found, rest[1:]
    given, left, _ = command.make_parser(context).parse_args(list(rest))
    missing = [
        one.name
        for one in command.params
        if isinstance(one, click.Argument) and one.required and not _is_given(given, one)
    ]
    # A sentence may name a command without what it is about; one that says it must say it whole.
    return f"too much: {left}" if left else f"without {missing}" if missing and rest else ""


def _is_given(given: Mapping[str, object], argument: click.Argument) -> bool:
    value = given.get(str(argument.name))
    return isinstance(value, str | tuple | list) and bool(value)


def test_every_command_that_a_page_shows_exists_with_its_options() -> None:
    wrong, seen = [], 0
    for page in PAGES:
        if page.name in {"CHANGELOG.md", "cli.md"}:
            continue
        for line in set(_commands(page)) - {_NO_COMMAND}:
            seen += 1
            try:
                why = _wrong(line)
            except click.UsageError as error:
                why = error.format_message()
            if why:
                wrong.append(f"{page.relative_to(ROOT)}: fleetward {line}: {why}")
    assert seen > 110
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("device lsit", "no command 'lsit'"),
        ("device add cam-1 --modle camera", "No such option"),
        ("device quarantine cam-1 cam-2 --reason x", "too much"),
        ("release withdraw camera --reason x", "without ['version']"),
        ("--data data device add cam-1 --model camera  # a claim", ""),
    ],
)
def test_a_wrong_command_is_noticed(line: str, why: str) -> None:
    try:
        found = _wrong(line)
    except click.UsageError as error:
        found = error.format_message()
    assert why in found if why else found == ""


def test_every_part_of_dev_that_a_page_names_exists() -> None:
    script = (ROOT / "dev").read_text()
    there = set(re.findall(r"^  ([a-z]+)\)$", script, re.MULTILINE))
    benches = {path.stem for path in (ROOT / "bench").glob("*.py")}
    for page in PAGES:
        for command, rest in re.findall(r"\./dev ([a-z]+)(?:[ \n]([a-z]+))?(?=[`\n ])", page.read_text()):
            assert command in there, f"{page.name}: ./dev {command}"
            if command == "bench" and rest:
                assert rest in benches | {"measures"}, f"{page.name}: ./dev bench {rest}"


def test_no_page_or_source_holds_the_marks_of_a_merge() -> None:
    """`git grep` exits with 1 when it finds none."""
    marks = ["git", "grep", "-lE", r"^(<{7}|>{7})( |$)|^={7}$", "--", "."]
    found = subprocess.run(marks, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.stdout, found.returncode) == ("", 1)


def test_every_anchor_leads_to_a_heading() -> None:
    broken = []
    for page in PAGES:
        for link, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
            target = page if not link else (page.parent / link).resolve()
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            if anchor not in {_slug(one) for one in headings}:
                broken.append(f"{page.relative_to(ROOT)}: {link}#{anchor}")
    assert broken == []


def _slug(heading: str) -> str:
    """Return a heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_page_is_reached_from_the_readme() -> None:
    """A page that nobody links to is a page that nobody mends."""
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in reached:
            continue
        reached.add(page)
        for link in re.findall(r"\]\(([^)#:]+)", page.read_text()):
            target = (page.parent / link).resolve()
            waiting += [target] if target.suffix == ".md" else sorted(target.glob("*.md"))
    assert {page.name for page in PAGES} - {page.name for page in reached} == set()


def test_every_source_that_a_page_names_by_its_floor_is_there() -> None:
    gone = [
        f"{page.relative_to(ROOT)}: {path}"
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for path in re.findall(
            r"`((?:features|programs|outside|wire|base|console|bench|abilities)/[\w./-]+)`", page.read_text()
        )
        if not any(
            (root / path).exists()
            for root in (ROOT, ROOT / "src/fleetward", ROOT / "src/fleetward/programs/agent")
        )
    ]
    assert gone == []


def test_the_order_of_features_is_the_contracts() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [one["layers"] for one in contracts if one.get("containers") == ["fleetward.features"]]
    page = " ".join((DOCS / "explanation/architecture.md").read_text().split())
    assert f"`{' · '.join(reversed(layers))}`" in page


def test_every_kind_permission_and_setting_in_the_prose_exists() -> None:
    actions = (DOCS / "reference/http.md").read_text().partition("\nActions: ")[2]
    known = {*EVENT_KINDS, *CATALOGUE, *re.findall(r"`([a-z_.]+)`", actions)}
    known |= {
        f"{section}.{field.name}"
        for section, kind in [
            *((one.name, one.kind) for one in SETTINGS),
            *((one.table, one) for one in SECTIONS),
        ]
        for field in msgspec.structs.fields(kind)
    }
    # Held against the code by test_docs_reference.
    for page in ("config", "agent-config"):
        rows = (DOCS / f"reference/{page}.md").read_text()
        known |= set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", rows, re.MULTILINE))
    unknown = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in PAGES
        if page.name not in {"CHANGELOG.md", "cli.md"}
        for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", _prose(page))
        if name not in known and not name.endswith(tuple(f".{one}" for one in _ENDINGS))
    ]
    assert unknown == []


def test_the_kinds_of_events_in_printed_output_exist() -> None:
    shown = {
        kind
        for page in PAGES
        for block in _blocks(page)
        for kind in re.findall(r"(?:info|notice|warning|critical) +([a-z_]+\.[a-z_]+)  ", block)
    }
    assert len(shown) > 10
    assert shown - set(EVENT_KINDS) == set()
