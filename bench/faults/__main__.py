"""`./dev faults [NAME…] [--count N] [--seed S] [--json]`: does what must never do harm, again and again.

Names: enrollment, renewal, update, power, platform; all when none is given. Exit code 1 when anything was
lost, did not recover or would have run unverified firmware; what a failed device or platform left is kept.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.faults.agent import kill_enrollments, kill_renewals
from bench.faults.outcome import Outcome
from bench.faults.platform import kill_platforms
from bench.faults.update import cut_updates, kill_updates
from bench.rig import raise_file_limit
from fleetward.base.logging import configure_logging

_SUITES: dict[str, tuple[Callable[[Path, int, int], Iterator[Outcome]], int]] = {
    "enrollment": (kill_enrollments, 200),
    "renewal": (kill_renewals, 200),
    "update": (kill_updates, 300),
    "power": (cut_updates, 5000),
    "platform": (kill_platforms, 12),
}
_MAX_SHOWN = 20


def main() -> int:
    """Run what the command line names; return the exit code."""
    wanted = _parse_arguments()
    raise_file_limit()
    configure_logging(level="critical", human=False)  # what a part of a platform in this process says
    console = Console(stderr=True)
    totals: Counter[str] = Counter()
    flaws: list[tuple[str, Outcome]] = []
    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for name in wanted.names or _SUITES:
            found = _run_suite(name, wanted, progress, totals)
            flaws += [(name, outcome) for outcome in found]
    _report(wanted, console, totals, flaws)
    return 1 if flaws else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev faults", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_SUITES))
    parser.add_argument("--count", type=int, help="faults of each kind")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="does the same again")
    parser.add_argument("--json", action="store_true", help="a line a flaw and one of totals")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - set(_SUITES):
        parser.error(f"NAME: expected some of {', '.join(_SUITES)}, found {', '.join(sorted(unknown))}")
    return wanted


def _run_suite(
    name: str, wanted: argparse.Namespace, progress: Progress, totals: Counter[str]
) -> list[Outcome]:
    suite, usual = _SUITES[name]
    count = wanted.count or usual
    bar = progress.add_task(name, total=count)
    folder = Path(tempfile.mkdtemp(prefix=f"fleetward-faults-{name}-"))
    flaws = []
    for outcome in suite(folder, wanted.seed, count):
        totals.update(outcome.counted)
        progress.advance(bar)
        if outcome.flaw:
            flaws.append(outcome)
            progress.console.print(f"[red]{name}[/] {outcome.case}: {outcome.flaw}", highlight=False)
        if len(flaws) == _MAX_SHOWN:
            progress.console.print(f"[red]{name}[/] ends early: {_MAX_SHOWN} flaws are enough to begin with")
            break
    if flaws:
        progress.console.print(f"[red]{name}[/] what it left: {folder}")
    else:
        shutil.rmtree(folder)
    return flaws


def _report(
    wanted: argparse.Namespace, console: Console, totals: Counter[str], flaws: list[tuple[str, Outcome]]
) -> None:
    if wanted.json:
        for name, outcome in flaws:
            line = {"suite": name, "case": outcome.case, "flaw": outcome.flaw, "seed": wanted.seed}
            print(json.dumps(line))
        print(json.dumps({"totals": totals, "flaws": len(flaws), "seed": wanted.seed}))
        return
    table = Table(box=None, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for what, number in totals.items():
        table.add_row(f"{number:,}", what)
    table.add_row(str(len(flaws)), "flaws", style="red" if flaws else "green")
    Console().print(table)
    if flaws:
        names = " ".join(sorted({name for name, _ in flaws}))
        count = f" --count {wanted.count}" if wanted.count else ""
        console.print(f"Again: ./dev faults {names} --seed {wanted.seed}{count}")


if __name__ == "__main__":
    sys.exit(main())
