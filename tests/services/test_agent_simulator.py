"""The simulated device: its chip, its power switch and its firmware images."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetward.programs.simulator.chip import Chip, ChipMaker, is_chip_available
from fleetward.programs.simulator.firmware import build_firmware, build_sbom
from fleetward.programs.simulator.machine import Machine

needs_chip = pytest.mark.skipif(not is_chip_available(), reason="swtpm is not installed")
needs_tools = pytest.mark.skipif(shutil.which("tpm2_pcrread") is None, reason="tpm2-tools is not installed")


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[Chip]:
    ChipMaker(tmp_path / "maker").make(tmp_path / "chip")
    with Chip(tmp_path / "chip") as powered:
        yield powered


def ask(chip: Chip, *command: str) -> str:
    environment = {**os.environ, "TPM2TOOLS_TCTI": chip.tcti}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


@needs_chip
@needs_tools
def test_a_power_cycle_clears_pcrs_and_keeps_the_chip(chip: Chip) -> None:
    endorsement_key = ask(chip, "tpm2_nvreadpublic")
    ask(chip, "tpm2_pcrextend", f"8:sha256={'ab' * 32}")
    assert "0x" + "00" * 32 not in ask(chip, "tpm2_pcrread", "sha256:8")
    address = chip.tcti
    for is_clean in (True, False):
        chip.power_cycle(cleanly=is_clean)
        assert "0x" + "00" * 32 in ask(chip, "tpm2_pcrread", "sha256:8")
    assert ask(chip, "tpm2_nvreadpublic") == endorsement_key
    assert chip.tcti == address


@needs_chip
def test_a_chip_is_made_once_and_its_maker_is_known(tmp_path: Path) -> None:
    maker = ChipMaker(tmp_path / "maker")
    maker.make(tmp_path / "chip")
    before = (tmp_path / "chip" / "tpm2-00.permall").read_bytes()
    maker.make(tmp_path / "chip")
    assert (tmp_path / "chip" / "tpm2-00.permall").read_bytes() == before
    assert maker.issuers_pem.count(b"BEGIN CERTIFICATE") == 2


def test_images_are_the_same_bytes_every_time_and_tell_their_version() -> None:
    assert build_firmware("1.0.0") == build_firmware("1.0.0")
    assert build_sbom("1.0.0") == build_sbom("1.0.0")
    assert build_firmware("1.0.0") != build_firmware("1.0.0", is_healthy=False)
    with zipfile.ZipFile(io.BytesIO(build_firmware("2.5.0"))) as image:
        assert json.loads(image.read("release.json"))["version"] == "2.5.0"
    sbom = json.loads(build_sbom("2.5.0"))
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert sbom["metadata"]["component"]["version"] == "2.5.0"


@pytest.mark.parametrize("is_healthy", [True, False])
def test_the_camera_tells_its_agent_how_it_is(tmp_path: Path, is_healthy: bool) -> None:
    image = tmp_path / ("long-" * 25) / "image"
    image.parent.mkdir()
    image.write_bytes(build_firmware("1.2.3", is_healthy=is_healthy))
    short = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as agent:
        agent.bind(str(short))
        agent.settimeout(20)
        environment = {"FLEETWARD_AGENT_SOCKET": str(short), "CAMERA_PERIOD_S": "0.05"}
        camera = subprocess.Popen([sys.executable, str(image)], env=environment, cwd=tmp_path)
        try:
            notes = [json.loads(agent.recv(65536)) for _ in range(4)]
        finally:
            camera.terminate()
            assert camera.wait(20) == 0
    assert notes[0] == {"log": {"event": "camera_started", "version": "1.2.3"}}
    assert notes[1]["report"]["camera"]["version"] == "1.2.3"
    assert notes[2]["health"] == ("ok" if is_healthy else "failing")
    assert notes[3]["stream"] == "temperature"


def test_a_machine_boots_again_until_it_is_switched_off(tmp_path: Path) -> None:
    """Settings that the boot stage refuses make it end at once: the machine goes on trying."""
    told: list[str] = []
    machine = Machine(tmp_path / "no-such-file.toml", log=tmp_path / "log", tell=told.append)
    with machine:
        deadline = time.monotonic() + 60
        while machine.boots < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert machine.boots >= 2
    assert machine.pid is None
    assert "ended with code 1" in told[0]
    assert b"no-such-file.toml" in (tmp_path / "log").read_bytes()
    assert b"Traceback" not in (tmp_path / "log").read_bytes()
