"""`fleetward demo fleet`: simulated devices live on a real platform, and come back after it broke."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.platform import Platform, running_platform

_DEVICES = 24


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("fleet")) as started:
        yield started


class Fleet:
    """A fleet as a process of its own; `line` is the newest it has printed."""

    def __init__(self, process: "subprocess.Popen[str]", printed: Path) -> None:
        self.process, self._printed = process, printed

    @property
    def line(self) -> dict[str, Any]:
        whole = [one for one in self._printed.read_text().splitlines(keepends=True) if one.endswith("\n")]
        found: dict[str, Any] = json.loads(whole[-1]) if whole else {}
        return found

    def wait(self, holds: Callable[[dict[str, Any]], bool], *, timeout_s: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while not holds(self.line):
            assert self.process.poll() is None, self._printed.read_text()
            assert time.monotonic() < deadline, self.line
            time.sleep(0.1)
        return self.line


@contextmanager
def fleet(platform: Platform, folder: Path, *options: str) -> Iterator[Fleet]:
    printed = folder / "fleet.log"
    command = [sys.executable, "-m", "fleetward", "--data", str(platform.data), "demo", "fleet", "--json"]
    with (
        printed.open("wb") as out,
        subprocess.Popen([*command, *options], stdout=out, stderr=subprocess.STDOUT, text=True) as process,
    ):
        try:
            yield Fleet(process, printed)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, printed.read_text()


def broker_of(platform: Platform) -> int:
    return int((platform.data / "nats" / "nats.pid").read_text())


def test_a_fleet_lives_answers_and_comes_back_after_the_broker_was_killed(
    platform: Platform, tmp_path: Path
) -> None:
    options = ("--devices", str(_DEVICES), "--telemetry", "2s", "--metrics", "3s", "--processes", "2")
    with fleet(platform, tmp_path, *options) as running:
        running.wait(lambda line: line.get("live") == _DEVICES)
        assert "ping: done" in platform.run("device", "command", "sim-camera-000003", "ping").stdout
        os.kill(broker_of(platform), signal.SIGKILL)
        running.wait(lambda line: line["live"] < _DEVICES)
        back = running.wait(lambda line: line["live"] == _DEVICES and line["connected"] >= 2 * _DEVICES)
        wanted = back["published"] + _DEVICES
        running.wait(lambda line: line["acknowledged"] >= wanted)
    last = running.line
    assert last["dropped"] == 0
    assert last["refused"] == 0
    kept = platform.api.get("/devices/sim-camera-000003/telemetry", limit=100)
    assert kept


def test_what_compromised_devices_try_is_refused_and_told(platform: Platform, tmp_path: Path) -> None:
    options = ("--devices", "4", "--model", "hacked", "--metrics", "2s", "--fault", "compromised=1")
    with fleet(platform, tmp_path, *options) as running:
        platform.wait_for_event("publish.refused", device="hacked-000000", timeout_s=60)
        platform.wait_for_event("subscribe.refused", device="hacked-000000", timeout_s=60)
        running.wait(lambda line: line["refused"] >= 4)


def test_updates_are_verified_tried_and_kept_or_rolled_back(platform: Platform, tmp_path: Path) -> None:
    image, sbom = tmp_path / "image", tmp_path / "sbom.json"
    image.write_bytes(os.urandom(50_000))
    sbom.write_text('{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": []}')
    options = ("--devices", "8", "--profile", "meter", "--update-check", "2s", "--seed", "5")
    with fleet(platform, tmp_path, *options, "--fault", "rollback=0.4") as running:
        running.wait(lambda line: line.get("live") == 8)
        platform.run(
            "release",
            "publish",
            str(image),
            "--model",
            "sim-meter",
            "--version",
            "2.0.0",
            "--sbom",
            str(sbom),
        )
        done = running.wait(
            lambda line: line.get("update_confirmed", 0) + line.get("update_rolled_back", 0) >= 8
        )
        assert done["update_rolled_back"] > 0
        assert done["update_confirmed"] > 0
        platform.wait_for_event("update.confirmed")
        rolled_back = platform.wait_for_event("update.rolled_back")
        shown = platform.run_json("device", "show", rolled_back["device"])
        assert shown["firmware_version"] == "1.0.0"
    platform.api.post("/releases/sim-meter/2.0.0/withdraw", {"reason": "the test is over"})


def test_a_second_run_uses_the_same_certificates(platform: Platform, tmp_path: Path) -> None:
    issued = len([one for one in platform.events() if one["kind"] == "certificate.issued"])
    with fleet(platform, tmp_path, "--devices", str(_DEVICES)) as running:
        running.wait(lambda line: line.get("live") == _DEVICES)
    assert len([one for one in platform.events() if one["kind"] == "certificate.issued"]) == issued


def test_a_renewed_certificate_is_used_at_once(platform: Platform, tmp_path: Path) -> None:
    with fleet(platform, tmp_path, "--devices", "2") as running:
        running.wait(lambda line: line.get("live") == 2)
        assert "done" in platform.run("device", "command", "sim-camera-000001", "renew-now").stdout
        running.wait(lambda line: line.get("renewed") == 1 and line["live"] == 2 and line["connected"] >= 3)


def test_a_model_that_asks_for_attestation_is_refused_with_the_way_out(platform: Platform) -> None:
    platform.api.post("/models", {"id": "attested", "attestation": "required"})
    done = platform.run("demo", "fleet", "--model", "attested", "--devices", "1", check=False)
    assert done.returncode == 1
    assert "choose another --model" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--fault", "burning"), ("--profile", "toaster"), ("--telemetry", "soon")]
)
def test_an_option_that_makes_no_sense_is_named(platform: Platform, option: str, value: str) -> None:
    done = platform.run("demo", "fleet", option, value, check=False)
    assert done.returncode == 1
    assert value in done.stderr
