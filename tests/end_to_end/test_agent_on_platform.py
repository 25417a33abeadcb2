"""Agents on a whole platform: every key tier, renewal, recovery, and a platform that dies under load."""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetward.base.agent_config import Pkcs11Keys, TpmKeys
from fleetward.programs.simulator import demo
from fleetward.programs.simulator.chip import Chip, ChipMaker
from fleetward.programs.simulator.machine import Machine
from support.agent_platform import AgentHost, Where, wait_for
from support.platform import Platform, running_platform
from support.softhsm import make_token

needs_chips = pytest.mark.skipif(not demo.has_chips(), reason="swtpm or tpm2-pytss is not installed")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("platform")) as started:
        yield started


def where_of(platform: Platform) -> Where:
    ready = platform.ready
    return Where(ready["devices"], ready["mqtt"], Path(ready["ca_file"]))


def add_model(platform: Platform, model: str, tier: str, *, cert_lifetime: str = "24h") -> None:
    platform.api.post("/models", {
        "id": model, "attestation": "required" if tier == "tpm" else "none", "min_tier": tier,
        "cert_lifetime": cert_lifetime, "appraisal_lifetime": "1h",
    })  # fmt: skip


def add_device(platform: Platform, model: str) -> tuple[str, str]:
    """Return a new device's id and its claim."""
    device = f"dev-{next(_numbers)}"
    return device, str(platform.api.post("/devices", {"id": device, "model": model})["claim"])


def wait_event(platform: Platform, device: str, kind: str, count: int = 1) -> dict[str, Any]:
    def find() -> dict[str, Any] | None:
        found = [one for one in platform.events(device=device) if one["kind"] == kind]
        return found[count - 1] if len(found) >= count else None

    return wait_for(find, f"{kind} number {count} of {device}", timeout_s=90)


def test_a_software_key_is_labelled_so_and_a_stricter_model_refuses_it(
    platform: Platform, tmp_path: Path
) -> None:
    add_model(platform, "plain", "software")
    add_model(platform, "strict", "pkcs11")
    device, claim = add_device(platform, "plain")
    refused, other_claim = add_device(platform, "strict")
    hosts = [AgentHost(where_of(platform), name, tmp_path / name) for name in (device, refused)]
    with ExitStack() as stack:
        for host, token in zip(hosts, (claim, other_claim), strict=True):
            stack.callback(host.kill)
            host.give_claim(token)
            host.start()
        wait_event(platform, device, "session.opened")
        assert platform.api.get(f"/devices/{device}")["tier"] == "software"
        wait_event(platform, refused, "enrollment.refused")
        wait_for(lambda: "software" in str(hosts[1].status.get("enrollment")), "the reason in its status")
        assert platform.api.get(f"/devices/{refused}")["state"] == "registered"


def test_a_key_in_a_token_enrolls_by_claim(platform: Platform, tmp_path: Path) -> None:
    add_model(platform, "element", "software")
    token = make_token(tmp_path)
    pin = tmp_path / "pin"
    pin.write_text(token.pin)
    pin.chmod(0o600)
    device, claim = add_device(platform, "element")
    keys = Pkcs11Keys(module=token.module, token=token.label, pin_file=pin)
    host = AgentHost(where_of(platform), device, tmp_path / "host", keys)
    try:
        host.give_claim(claim)
        host.start()
        wait_event(platform, device, "session.opened")
    finally:
        host.kill()


@dataclass
class Camera:
    """A device with a chip, whose factory has listed it."""

    place: demo.Place
    chip: Chip
    machine: Machine


def make_camera(stack: ExitStack, platform: Platform, model: str, *, cert_lifetime: str) -> Camera:
    add_model(platform, model, "tpm", cert_lifetime=cert_lifetime)
    place = demo.make_place(platform.data, f"dev-{next(_numbers)}", model)
    maker = ChipMaker(place.folder.parent / "chip-maker")
    maker.make(place.folder / "chip")
    chip = stack.enter_context(Chip(place.folder / "chip"))
    demo._install_first_firmware(place)
    platform.api.post("/attestation/ek-roots", {"pem": maker.issuers_pem.decode()})
    demo._ship(place, chip)
    demo.write_config(place, TpmKeys(folder=place.folder / "keys", tcti=chip.tcti))
    machine = Machine(place.config_file, chip=chip, log=place.folder / "device.log")
    stack.callback(machine.stop)
    return Camera(place, chip, machine)


@needs_chips
def test_a_key_in_a_chip_is_renewed_before_its_end_and_recovered_after_it(platform: Platform) -> None:
    with ExitStack() as stack:
        camera = make_camera(stack, platform, "brief", cert_lifetime="30s")
        device = camera.place.device
        camera.machine.start()
        wait_event(platform, device, "session.opened")
        assert platform.api.get(f"/devices/{device}")["tier"] == "tpm"
        wait_event(platform, device, "certificate.issued", 2)
        wait_event(platform, device, "session.opened", 2)

        camera.machine.stop()
        issued = platform.api.get(f"/devices/{device}/certificates")
        time.sleep(31)
        camera.machine.start()
        wait_event(platform, device, "session.opened", 3)
        lanes = [
            e["details"]["lane"]
            for e in platform.events(device=device)
            if e["kind"] == "enrollment.completed"
        ]
        assert len(platform.api.get(f"/devices/{device}/certificates")) > len(issued)
        assert lanes[-1] == "tpm-recover"


@needs_chips
def test_a_reboot_by_command_ends_in_a_fresh_attested_session(platform: Platform) -> None:
    with ExitStack() as stack:
        camera = make_camera(stack, platform, "rebooting", cert_lifetime="1h")
        device = camera.place.device
        camera.machine.start()
        wait_event(platform, device, "session.opened")
        done = platform.run("device", "command", device, "reboot", "--timeout", "60", check=False)
        assert "done" in done.stdout
        assert camera.machine.boots == 2
        wait_event(platform, device, "attestation.appraised", 2)


def test_a_platform_killed_under_load_loses_nothing(platform: Platform, tmp_path: Path) -> None:
    """Platform and broker die by SIGKILL, twice, while readings flow; all arrive, each once."""
    add_model(platform, "loaded", "software")
    device, claim = add_device(platform, "loaded")
    host = AgentHost(where_of(platform), device, tmp_path / "host")
    total, stopped = 900, threading.Event()

    def flow() -> None:
        for number in range(total):
            host.say({"stream": "count", "value": number})
            if stopped.wait(0.01):
                return

    try:
        host.give_claim(claim)
        host.start()
        wait_event(platform, device, "session.opened")
        application = threading.Thread(target=flow)
        application.start()
        for _ in range(2):
            time.sleep(3)
            platform.kill()
            platform.start()
        application.join()
        wait_for(lambda: host.count_queued() == 0, "an empty queue", timeout_s=90)

        def arrived() -> list[int]:
            path = f"/devices/{device}/telemetry"
            page = platform.api.get(path, stream="count", limit=1000)
            return [record["value"] for record in page["records"]]

        wait_for(lambda: len(set(arrived())) == total, "every reading", timeout_s=60)
        assert sorted(arrived()) == list(range(total))
    finally:
        stopped.set()
        host.kill()
