"""Counts, for each feature, the files of src outside its folder that import from it: `./dev check` prints it.

A feature that is named in few places can be changed without asking its neighbours. The goal is 6 files for
all but devices and access, which are what others are about; a feature that meets it must go on meeting it.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src/fleetward"
GOAL = 6
WITHOUT_GOAL = frozenset({"access", "devices"})
# How many there are where the goal is not met. Lower a number when it falls, and drop it when it is met.
# Why they are not: docs/decisions/0014-who-names-a-feature.md.
PRESENT = {"messaging": 28, "pki": 24, "updates": 18, "attestation": 13, "audit": 9, "enrollment": 9}


def count_namers(sources: Path) -> dict[str, list[str]]:
    """Return the files that import from each feature, by its name, in the order of most named."""
    features = sorted(path.name for path in (sources / "features").iterdir() if any(path.glob("*.py")))
    named: dict[str, list[str]] = {feature: [] for feature in features}
    for path in sorted(sources.rglob("*.py")):
        place = path.relative_to(sources)
        for feature in {one for one in _imported(path) if one in named}:
            if place.parts[:2] != ("features", feature):
                named[feature].append(str(place))
    return dict(sorted(named.items(), key=lambda one: (-len(one[1]), one[0])))


def find_breaches(named: Mapping[str, list[str]], present: Mapping[str, int]) -> list[str]:
    """Return the features that are named in more files than the goal, or than are written down."""
    most = {feature: present.get(feature, GOAL) for feature in named if feature not in WITHOUT_GOAL}
    return [
        f"{feature}: expected at most {most[feature]} files outside its folder, found {len(named[feature])}"
        for feature in most
        if len(named[feature]) > most[feature]
    ]


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        modules: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
        elif isinstance(node, ast.Import):
            modules = [one.name for one in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[:2] == ["fleetward", "features"] and len(parts) > 2:
                yield parts[2]


def main() -> int:
    """Print the table; return 1 when a feature is named in more files than before."""
    named = count_namers(SOURCES)
    sys.stdout.write(f"files outside its folder that name a feature (goal: {GOAL})\n")
    for feature, files in named.items():
        note = f"  over the goal, {PRESENT[feature]} written down" if feature in PRESENT else ""
        sys.stdout.write(f"  {feature:<14}{len(files):>4}{note}\n")
    breaches = find_breaches(named, PRESENT)
    sys.stdout.writelines(f"{one}\n" for one in breaches)
    return int(bool(breaches))


if __name__ == "__main__":
    sys.exit(main())
