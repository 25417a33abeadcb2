"""The count that `./dev check` prints: who names a feature."""

from pathlib import Path

import pytest

from support.naming import GOAL, PRESENT, SOURCES, count_namers, find_breaches


def test_files_that_import_from_a_feature_are_counted_once_and_its_own_never(tmp_path: Path) -> None:
    for name in ("boats", "tides"):
        (tmp_path / "features" / name).mkdir(parents=True)
        (tmp_path / "features" / name / "__init__.py").write_text("")
    (tmp_path / "features/boats/own.py").write_text("from fleetward.features.boats import sails\n")
    (tmp_path / "one.py").write_text(
        "from fleetward.features.boats.model import Boat\nimport fleetward.features.boats.service\n"
    )
    (tmp_path / "two.py").write_text("from fleetward.features import boats\n")
    (tmp_path / "none.py").write_text("boats = 'fleetward.features.tides'\n")
    assert count_namers(tmp_path) == {"boats": ["one.py", "two.py"], "tides": []}


@pytest.mark.parametrize(
    ("feature", "count", "is_breach"),
    [
        ("tides", GOAL, False),
        ("tides", GOAL + 1, True),
        ("boats", 9, False),
        ("boats", 10, True),
        ("devices", 40, False),
        ("access", 40, False),
    ],
)
def test_no_number_may_rise(feature: str, count: int, *, is_breach: bool) -> None:
    named = {feature: [f"{number}.py" for number in range(count)]}
    assert bool(find_breaches(named, {"boats": 9})) is is_breach


def test_no_feature_is_written_down_that_meets_the_goal() -> None:
    named = count_namers(SOURCES)
    assert [feature for feature in PRESENT if len(named[feature]) <= GOAL] == []
