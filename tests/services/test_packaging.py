"""What is packed, and what never is: wheel, units, the context of a container's build."""

import fnmatch
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSOLE = "src/fleetward/programs/server/console"
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
MOST_EXPOSED = 4.0


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What hatchling reads of a clean clone; the package itself is its first file alone."""
    place = tmp_path / "clone"
    shutil.copytree(ROOT / "deploy/systemd", place / "deploy/systemd")
    (place / "src/fleetward").mkdir(parents=True)
    shutil.copy(ROOT / "src/fleetward/__init__.py", place / "src/fleetward")
    for name in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py"):
        shutil.copy(ROOT / name, place)
    return place


def build(clone: Path, kind: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", "out"]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_nothing_is_built_without_the_console(clone: Path, kind: str) -> None:
    failed = build(clone, kind)
    assert failed.returncode != 0
    assert "./dev console" in failed.stderr
    assert list(clone.rglob("*.whl")) + list(clone.rglob("*.tar.gz")) == []


def test_a_wheel_holds_the_console_and_the_units(clone: Path) -> None:
    (clone / CONSOLE / "assets").mkdir(parents=True)
    for name in ("index.html", "assets/a.js"):
        (clone / CONSOLE / name).write_text("x")
    built = build(clone, "wheel")
    assert built.returncode == 0, built.stderr
    (wheel,) = (clone / "out").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"fleetward/programs/server/console/index.html"} < set(names)
    for unit in UNITS:
        assert any(name.endswith(f".data/data/lib/systemd/system/{unit.name}") for name in names)


def test_a_source_distribution_holds_no_data_folder(clone: Path) -> None:
    for name in (f"{CONSOLE}/index.html", "fleet/keys/device-ca.pem", "admin.token", "one.age"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("x")
    built = build(clone, "sdist")
    assert built.returncode == 0, built.stderr
    (packed,) = (clone / "out").glob("*.tar.gz")
    with tarfile.open(packed) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {f"{CONSOLE}/index.html", "hatch_build.py", "deploy/systemd/fleetward.service"} < names
    assert [name for name in names if name.startswith(("fleet/", "admin", "one"))] == []


def is_sent(path: str) -> bool:
    """Say whether a container's build gets a file: the last line of .dockerignore that matches decides."""
    is_ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        rule = line.removeprefix("!")
        if rule.startswith("**/"):
            matches = rule[3:] in path.split("/")
        else:
            matches = any(fnmatch.fnmatchcase(one, rule) for one in (path, *map(str, Path(path).parents)))
        if matches:
            is_ignored = not line.startswith("!")
    return not is_ignored


@pytest.mark.parametrize(
    "path",
    ["data/keys/device-ca.pem", "fleet/offline/root.key.pem", ".git/config", ".venv/bin/python", "backup.age",
     "src/fleetward/__pycache__/x.pyc", "admin.token", "deploy/cluster/fleetward.toml", "tests/conftest.py"],
)  # fmt: skip
def test_no_key_and_no_clutter_gets_into_an_image(path: str) -> None:
    assert not is_sent(path)


def test_what_a_wheel_is_built_from_gets_into_the_image() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [settings["project"]["readme"], *settings["project"]["license-files"], "pyproject.toml"]
    needed += [settings["tool"]["hatch"]["build"]["hooks"]["custom"]["path"], f"{CONSOLE}/index.html"]
    needed += [str(unit.relative_to(ROOT)) for unit in UNITS]
    assert [path for path in needed if not is_sent(path)] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_not_exposed(unit: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    found = subprocess.run(
        [program, "security", "--offline=true", str(unit)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    level = re.search(r"exposure level for \S+: ([0-9.]+)", found.stdout)
    assert level is not None, found.stdout[-200:]
    assert float(level[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_one_that_systemd_understands(unit: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    found = subprocess.run(
        [program, "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    said = [line for line in found.stderr.splitlines() if unit.name in line]
    assert [line for line in said if "is not executable" not in line] == []
