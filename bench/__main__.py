"""`./dev bench [NAME…]`: runs the benchmarks named, or all, and prints a table; `--json` for machines."""

import importlib
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

_ALL = ("connects", "messages", "ingest", "enrollments", "revocation", "agent", "console", "fleet", "streams")


def main() -> None:
    """Run what the command line names."""
    names = [name for name in sys.argv[1:] if not name.startswith("-")] or list(_ALL)
    unknown = [name for name in names if name not in _ALL]
    if unknown:
        sys.exit(f"benchmark {unknown[0]!r}: expected one of {', '.join(_ALL)}")
    table = Table(box=None, header_style="bold")
    for heading in ("figure", "unit", "ours", "peer", "its", "ratio", "goal"):
        table.add_column(heading, justify="left" if heading in {"figure", "peer"} else "right")
    for name in names:
        with tempfile.TemporaryDirectory(prefix=f"fleetward-bench-{name}-") as folder:
            for result in importlib.import_module(f"bench.{name}").run(Path(folder)):
                line = result.as_json()
                if "--json" in sys.argv:
                    print(json.dumps(line), flush=True)
                cells = ("figure", "unit", "ours", "peer", "peer_value", "ratio", "goal")
                table.add_row(*(str(line[cell]) for cell in cells))
    if "--json" not in sys.argv:
        Console().print(table)


main()
