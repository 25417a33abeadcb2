"""Counts, for each feature, the files of src outside its folder that import from it: `./dev check` prints it.

A feature that is named in few places can be changed without asking its neighbours. The number written down
for each may only fall; the goal is 6 for all but devices and access, which are what others are about.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src/fleetward"
GOAL = 6
WITHOUT_GOAL = frozenset({"access", "devices"})
# How many there are, where it is more than the goal. Lower a number as soon as it falls.
PRESENT: dict[str, int] = {}


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
    """Return what is worse than written down, or better and not written down yet."""
    found = []
    for feature, files in named.items():
        most = present.get(feature, GOAL)
        if feature in WITHOUT_GOAL:
            continue
        if len(files) > most:
            found.append(f"{feature}: expected at most {most} files outside its folder, found {len(files)}")
        elif feature in present and len(files) < most:
            found.append(f"{feature}: {len(files)} files name it now: write that down instead of {most}")
    return found


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
    """Print the table; return 1 when it got worse."""
    named = count_namers(SOURCES)
    sys.stdout.write(f"files outside its folder that name a feature (goal: {GOAL})\n")
    for feature, files in named.items():
        note = "" if len(files) <= GOAL or feature in WITHOUT_GOAL else "  over the goal"
        sys.stdout.write(f"  {feature:<14}{len(files):>4}{note}\n")
    breaches = find_breaches(named, PRESENT)
    sys.stdout.writelines(f"{one}\n" for one in breaches)
    return int(bool(breaches))


if __name__ == "__main__":
    sys.exit(main())
