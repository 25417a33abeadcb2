"""Every attack really happens, is refused, and leaves an event that says what happened to whom."""

import json
from collections.abc import Iterator

import pytest

from fleetward.base.errors import ConflictError
from fleetward.programs.simulator.attacks.catalogue import ATTACKS
from fleetward.programs.simulator.attacks.stock import PLAIN
from fleetward.programs.simulator.demo import make_place, publish
from support.platform import Platform, running_platform
from support.visitors import person


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("attacked")) as started:
        yield started


@pytest.mark.parametrize("name", list(ATTACKS))
def test_the_attack_is_refused_and_recorded(platform: Platform, name: str) -> None:
    done = platform.run("demo", "attack", name, "--json", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["attack"] == name
    assert report["refused"] is True
    assert set(report["event"]) >= {"time", "kind", "device", "severity", "message", "details"}
    assert report["event"]["severity"] in {"warning", "critical"}


def test_an_attack_can_be_played_beside_devices_of_earlier_ones(platform: Platform) -> None:
    for _ in range(2):
        done = platform.run("demo", "attack", "tampered-slot", "--json", check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_attack_is_named_with_those_there_are(platform: Platform) -> None:
    done = platform.run("demo", "attack", "nonsense", check=False)
    assert done.returncode == 1
    assert "tampered-slot" in done.stderr


def test_attacks_can_be_played_once_there_are_operators(platform: Platform) -> None:
    """Their firmware was published while one person could; what is new waits for two, and they say so."""
    with person(platform) as ada:
        ada.set_up("ada")
    for name in ("tampered-slot", "rolled-back-metadata"):
        done = platform.run("demo", "attack", name, "--json", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    with pytest.raises(ConflictError, match="found it pending"):
        publish(make_place(platform.data, "stock", PLAIN), "9.9.9")


def test_the_audit_log_still_holds(platform: Platform) -> None:
    assert platform.run_json("audit", "verify")["verified"]
