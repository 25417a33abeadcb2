"""The smart camera on a whole platform: from its chip to a browser that shows its picture, and back out."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetward.programs.simulator.demo import DEVICE, has_chips
from support.platform import Platform, running_platform

_LIFE_TIMEOUT_S = 150


@dataclass
class Life:
    platform: Platform
    steps: list[dict[str, Any]]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A platform with its camera, after all steps of its life up to the update."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    with running_platform(tmp_path_factory.mktemp("camera")) as platform:
        command = [
            sys.executable,
            "-m",
            "fleetward",
            "demo",
            "camera",
            "--data",
            str(platform.data),
            "--json",
        ]
        log = platform.data.parent / "camera.jsonl"
        with log.open("wb") as output:
            camera = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + _LIFE_TIMEOUT_S
            steps: list[dict[str, Any]] = []
            while not any(step["step"] == "updated" for step in steps):
                assert camera.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.3)
                steps = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
            yield Life(platform, steps)
        finally:
            camera.terminate()
            camera.wait(30)


def test_every_step_of_the_life_comes_about(life: Life) -> None:
    assert all(step["ok"] for step in life.steps)
    expected = [
        "made", "provisioned", "enrolled", "attested", "connected",
        "telemetry", "command", "video", "updated",
    ]  # fmt: skip
    if not has_chips():
        expected.remove("attested")
    assert [step["step"] for step in life.steps] == expected


def test_the_registry_shows_what_the_chip_proved(life: Life) -> None:
    if not has_chips():
        pytest.skip("swtpm or tpm2-pytss is not installed")
    shown = life.platform.run_json("device", "show", DEVICE)
    assert (shown["tier"], shown["hardware_kind"], shown["firmware_version"]) == ("tpm", "tpm-ek", "1.1.0")
    assert shown["appraisals"][0]["good"]
    assert life.platform.run_json("audit", "verify")["verified"]


def test_the_audit_log_tells_the_whole_life(life: Life) -> None:
    lines = life.platform.run("audit", "search", "--json").stdout.splitlines()
    actions = {json.loads(line)["action"] for line in lines}
    assert actions >= {"release.published", "certificate.issued", "device.enrolled", "device.active"}


def test_an_attack_beside_the_camera_is_refused(life: Life) -> None:
    report = json.loads(life.platform.run("demo", "attack", "tampered-slot", "--json").stdout)
    assert report["refused"]
    assert report["event"]["device"] != DEVICE


def test_a_browser_shows_the_picture_until_the_device_is_quarantined(life: Life, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    platform = life.platform
    granted = platform.run_json("device", "view", DEVICE)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.goto(granted["url"])
        page.wait_for_selector("html[data-state=live]", timeout=20_000)
        first = page.evaluate("() => document.getElementById('video').currentTime")
        page.wait_for_timeout(1500)
        assert page.evaluate("() => document.getElementById('video').currentTime") > first
        assert page.evaluate(_COUNT_COLOURS) > 8
        assert granted["ticket"] not in page.url
        page.screenshot(path=str(tmp_path / "live.png"))
        platform.run("device", "quarantine", DEVICE)
        page.wait_for_selector("html[data-state=ended]", timeout=10_000)
        again = browser.new_context(ignore_https_errors=True).new_page()
        again.goto(granted["url"])
        again.wait_for_selector("html[data-state=ended]", timeout=10_000)
        assert "used" in again.inner_text("#status")
        browser.close()
    refused = platform.run("device", "view", DEVICE, check=False)
    assert refused.returncode == 1
    assert "verified session" in refused.stderr
    assert platform.wait_for_event("session.closed", device=DEVICE)
    opened = _count(platform, "session.opened")
    platform.run("device", "release", DEVICE)
    _wait(lambda: _count(platform, "session.opened") > opened)


def test_a_power_cut_loses_nothing_that_was_acknowledged(life: Life) -> None:
    """The platform and its broker die with SIGKILL; the camera goes on and hands in what it kept."""
    platform = life.platform
    before = len(platform.events(device=DEVICE))
    platform.kill()
    time.sleep(1)
    platform.start()
    assert len(platform.events(device=DEVICE)) >= before
    _wait(lambda: platform.api.get(f"/devices/{DEVICE}/presence")["connected"])
    assert platform.run_json("audit", "verify")["verified"]


def test_a_revoked_device_is_cut_off_and_does_not_return(life: Life) -> None:
    platform = life.platform
    platform.run("device", "revoke", DEVICE, "--reason", "stolen")
    _wait(lambda: not platform.api.get(f"/devices/{DEVICE}/presence")["connected"])
    refused = platform.wait_for_event("certificate.revoked", device=DEVICE)
    assert refused["severity"] == "warning"
    time.sleep(2)
    assert not platform.api.get(f"/devices/{DEVICE}/presence")["connected"]
    platform.run("device", "retire", DEVICE)
    assert platform.run_json("device", "show", DEVICE)["state"] == "retired"


_COUNT_COLOURS = """() => {
  const canvas = document.createElement('canvas');
  canvas.width = 64; canvas.height = 36;
  const pen = canvas.getContext('2d');
  pen.drawImage(document.getElementById('video'), 0, 0, 64, 36);
  const pixels = pen.getImageData(0, 0, 64, 36).data;
  const seen = new Set();
  for (let i = 0; i < pixels.length; i += 4) {
    seen.add(`${pixels[i] >> 5},${pixels[i + 1] >> 5},${pixels[i + 2] >> 5}`);
  }
  return seen.size;
}"""


def _count(platform: Platform, kind: str) -> int:
    return len([event for event in platform.events(device=DEVICE) if event["kind"] == kind])


def _wait(holds: Any, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)
