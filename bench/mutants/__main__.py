"""`./dev mutants [AREA…] [--minutes M]`: does a test notice when a rule is wrong?

mutmut plants single faults in the rules of an area (see `areas.py`; all when none is given) and runs the
area's rule tests against each, in a copy below `build/mutants/`. A fault that no test notices survives; each
survivor stands in `survivors.toml` with the reason why it may. Exit code 1 when less than 90 % of an area's
faults are noticed, or when one survives that is not listed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.mutants.areas import AREAS, Area

_ROOT = Path(__file__).resolve().parents[2]
_WORK = _ROOT / "build" / "mutants"
_GOAL_PERCENT = 90
_NOTICED = {1, 3, 36, -24, 24, 152, 255}  # mutmut's codes: a test failed, pytest broke, or it ran out of time
_SURVIVED = {0, 5, 33}  # all tests passed, or none ran


@dataclass(frozen=True)
class Survivor:
    """A fault that no test notices: the lines it removes and adds, in a function of a module."""

    function: str
    removed: str
    added: str


@dataclass(frozen=True)
class Outcome:
    """What came of an area; `is_complete` is False when its time was up."""

    modules: dict[str, Counter[str]]
    survivors: dict[Survivor, str]
    is_complete: bool


def main() -> int:
    """Run what the command line names; return the exit code."""
    arguments = _parse_arguments()
    console = Console()
    listed = _read_survivors()
    is_good = True
    for name in arguments.areas or AREAS:
        outcome = run_area(name, AREAS[name], minutes=arguments.minutes)
        is_good = _show(console, name, outcome, listed) and is_good
    return 0 if is_good else 1


def run_area(name: str, area: Area, *, minutes: float) -> Outcome:
    """Plant the faults of one area and return what came of them."""
    work = _prepare(name, area)
    mutmut = Path(sys.executable).with_name("mutmut")
    with (work / "mutmut.log").open("wb") as log:
        process = subprocess.Popen(
            [mutmut, "run"], cwd=work, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            code = process.wait(minutes * 60)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            code = None
    if code:
        raise SystemExit(f"mutmut ended with {code}; its words: {work / 'mutmut.log'}")
    return _read_outcome(work, mutmut, is_complete=code == 0)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev mutants")
    parser.add_argument(
        "areas", nargs="*", metavar="AREA", help=f"of {', '.join(AREAS)}; all when none is given"
    )
    parser.add_argument("--minutes", type=float, default=20, help="an area's time (default 20)")
    found = parser.parse_args()
    unknown = set(found.areas) - AREAS.keys()
    if unknown:
        parser.error(f"area: expected {', '.join(AREAS)}, found {', '.join(sorted(unknown))}")
    return found


def _prepare(name: str, area: Area) -> Path:
    """Make a copy of sources and tests, with settings that name this area's alone."""
    work = _WORK / name
    shutil.rmtree(work, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "console", "saved", "node_modules")
    for folder in ("src", "tests"):
        shutil.copytree(_ROOT / folder, work / folder, ignore=ignored)
    tests = sorted(str(path.relative_to(_ROOT)) for glob in area.tests for path in _ROOT.glob(glob))
    (work / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\n"
        'addopts = "--import-mode=importlib -p no:cacheprovider"\n'
        'pythonpath = ["tests"]\n'
        "[tool.mutmut]\n"
        'source_paths = ["src"]\n'
        "use_git_change_detection = false\n"
        f"only_mutate = {json.dumps([f'src/fleetward/{one}' for one in area.sources])}\n"
        f"pytest_add_cli_args_test_selection = {json.dumps(tests)}\n"
    )
    return work


def _read_outcome(work: Path, mutmut: Path, *, is_complete: bool) -> Outcome:
    modules: dict[str, Counter[str]] = {}
    survivors: dict[Survivor, str] = {}
    for meta in sorted((work / "mutants" / "src").rglob("*.py.meta")):
        codes: dict[str, int | None] = json.loads(meta.read_text())["exit_code_by_key"]
        if not codes:
            continue
        counts: Counter[str] = Counter()
        for key, code in codes.items():
            counts[_judge(code)] += 1
            if code in _SURVIVED:
                survivors[_describe(work, mutmut, key)] = key
        modules[str(meta.relative_to(work / "mutants" / "src" / "fleetward")).removesuffix(".meta")] = counts
    return Outcome(modules, survivors, is_complete)


def _judge(code: int | None) -> str:
    if code in _NOTICED:
        return "noticed"
    if code in _SURVIVED:
        return "survived"
    return "not tried" if code is None else "unclear"


def _describe(work: Path, mutmut: Path, key: str) -> Survivor:
    """Return a survivor by what it changes: mutmut's numbers move with every edit."""
    shown = subprocess.run(
        [mutmut, "show", key], cwd=work, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    ).stdout.splitlines()
    removed = [line[1:].strip() for line in shown if line.startswith("-") and not line.startswith("---")]
    added = [line[1:].strip() for line in shown if line.startswith("+") and not line.startswith("+++")]
    return Survivor(key.rpartition("__mutmut_")[0], "\n".join(removed), "\n".join(added))


def _read_survivors() -> dict[Survivor, str]:
    content = tomllib.loads((Path(__file__).parent / "survivors.toml").read_text())
    return {
        Survivor(one["function"], one["removed"], one["added"]): one["reason"] for one in content["survivor"]
    }


def _show(console: Console, name: str, outcome: Outcome, listed: dict[Survivor, str]) -> bool:
    """Print an area's outcome; return whether it is good."""
    table = Table("module", "faults", "noticed", "survived", "not tried", title=name)
    total: Counter[str] = Counter()
    for module, counts in outcome.modules.items():
        total += counts
        table.add_row(module, *_row(counts))
    table.add_row("[bold]all[/bold]", *_row(total))
    console.print(table)
    if not outcome.is_complete:
        console.print("Its time was up: --minutes gives it more.")
    fresh = [one for one in outcome.survivors if one not in listed]
    for one in fresh:
        console.print(f"\n[bold]{one.function}[/bold] survives and is not listed:", highlight=False)
        console.print(f"- {one.removed}\n+ {one.added}", markup=False, highlight=False)
    tried = total["noticed"] + total["survived"] + total["unclear"]
    return not fresh and tried > 0 and total["noticed"] * 100 >= _GOAL_PERCENT * tried


def _row(counts: Counter[str]) -> tuple[str, ...]:
    tried = counts["noticed"] + counts["survived"] + counts["unclear"]
    share = f"{counts['noticed']} ({counts['noticed'] * 100 / tried:.1f} %)" if tried else "0"
    return str(counts.total()), share, str(counts["survived"]), str(counts["not tried"])


if __name__ == "__main__":
    sys.exit(main())
