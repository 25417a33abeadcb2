"""The smart camera's life on a running platform, from the factory to its first update."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fleetward.base.agent_config import (
    AgentConfig,
    Keys,
    SoftwareKeys,
    TpmKeys,
    render_agent_config,
)
from fleetward.base.clock import SystemClock, render_time
from fleetward.base.errors import ConflictError, UnavailableError
from fleetward.base.files import write_secret
from fleetward.features.media.device import Video
from fleetward.features.messaging.device import Telemetry
from fleetward.features.updates.device.settings import Firmware
from fleetward.outside.http.platform import Api, find_platform
from fleetward.outside.slots.folder import prepare_slot
from fleetward.programs.simulator.chip import Chip, ChipMaker, is_chip_available
from fleetward.programs.simulator.firmware import build_firmware, build_sbom
from fleetward.programs.simulator.machine import Machine
from fleetward.programs.simulator.narrator import Narrator
from fleetward.programs.simulator.viewer import watch_once

DEVICE = "cam-1"
FIRST, SECOND = "1.0.0", "1.1.0"
_STEP_TIMEOUT_S = 90.0
_POLL_S = 0.2
_CERT_LIFETIME, _APPRAISAL_LIFETIME = "1h", "30m"


@dataclass(frozen=True)
class Place:
    """Where one simulated device lives, which factory makes it, and on which platform."""

    api: Api
    ready: dict[str, str]
    folder: Path
    factory: Path
    device: str
    model: str

    @property
    def config_file(self) -> Path:
        return self.folder / "agent.toml"

    @property
    def slots(self) -> Path:
        return self.folder / "slots"


def has_chips() -> bool:
    """Whether this machine can simulate TPMs and speak to them."""
    try:
        import tpm2_pytss  # noqa: F401, PLC0415 - only whether it is there
    except (ImportError, NotImplementedError):
        return False
    return is_chip_available()


def run_camera(data: Path, *, as_json: bool, prepare_attacks: Callable[[Path], None]) -> int:
    """Play the camera's life, then keep it running until a signal; return the exit code.

    Args:
        prepare_attacks: publishes what the attacks need, while one person still may.

    Raises:
        UnavailableError: no platform runs from `data`, or a step did not come about.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    narrator = Narrator(as_json=as_json)
    with ExitStack() as stack:
        is_tpm = has_chips()
        place = make_place(data, DEVICE, "camera" if is_tpm else "camera-software")
        _introduce(narrator, is_tpm=is_tpm)
        chip = _make_device(stack, narrator, place, is_tpm=is_tpm)
        try:
            prepare_attacks(data)
        except ConflictError as error:
            narrator.say(f"   Attacks on firmware must wait: {error}")
        machine = Machine(place.config_file, chip=chip, log=place.folder / "device.log")
        stack.callback(machine.stop)
        _live(narrator, place, machine, is_tpm=is_tpm)
        _say_what_next(narrator, data, place)
        stopped.wait()
    return 0


def make_place(data: Path, device: str, model: str) -> Place:
    """Return a folder for a simulated device of the platform that runs from `data`."""
    api = find_platform(data)
    folder = data / "demo" / device
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ready = json.loads((data / "ready.json").read_text())
    return Place(api, ready, folder, data / "demo" / "factory", device, model)


def provision(place: Place, chip: Chip | None, maker: ChipMaker | None) -> None:
    """Do what the factory does: firmware in slot a, the shipment's manifest, trust anchors, settings.

    A chip is named in a signed shipment manifest; a device without one gets a claim.
    """
    add_model(place, is_tpm=chip is not None)
    if not (place.slots / "a" / "image").exists():
        _install_first_firmware(place)
    if chip is None or maker is None:
        keys: Keys = SoftwareKeys(folder=place.folder / "keys")
        _claim(place)
    else:
        keys = TpmKeys(folder=place.folder / "keys", tcti=chip.tcti)
        place.api.post("/attestation/ek-roots", {"pem": maker.issuers_pem.decode()})
        _ship(place, chip)
    write_config(place, keys)


def add_model(place: Place, *, is_tpm: bool) -> None:
    """Register the camera's model: with a chip it must attest, without it cannot."""
    place.api.post("/models", {
        "id": place.model, "attestation": "required" if is_tpm else "none",
        "min_tier": "tpm" if is_tpm else "software", "cert_lifetime": _CERT_LIFETIME,
        "appraisal_lifetime": _APPRAISAL_LIFETIME,
    })  # fmt: skip


def write_config(place: Place, keys: Keys) -> None:
    """Write the agent's settings; a chip's address is another one each time it is powered."""
    host, _, port = place.ready["mqtt"].rpartition(":")
    firmware = Firmware(
        slots_dir=place.slots,
        model=place.model,
        keys_file=place.folder / "firmware-keys.json",
        tuf_root=place.folder / "tuf-root.json",
        poll_interval="5s",
        trial_timeout="60s",
    )
    config = AgentConfig(
        device_id=place.device,
        server=place.ready["devices"],
        mqtt=f"{host}:{port}",
        ca_file=Path(place.ready["ca_file"]),
        state_dir=place.folder / "state",
        keys=keys,
        claim_file=place.folder / "claim" if isinstance(keys, SoftwareKeys) else None,
        sections=(firmware, Video("test"), Telemetry(interval="5s")),
    )
    write_secret(place.config_file, render_agent_config(config))


def publish(place: Place, version: str, *, is_healthy: bool = True) -> dict[str, Any]:
    """Publish the demo firmware in `version`, once.

    Raises:
        ConflictError: the platform has operators, and two of them have not approved it.
    """
    known = {release["version"] for release in place.api.get("/releases", model=place.model)}
    if version in known:
        return _check_published(place, place.api.get(f"/releases/{place.model}/{version}"))
    image, sbom = build_firmware(version, is_healthy=is_healthy), build_sbom(version)
    fields = {
        "model": place.model,
        "version": version,
        "sbom": ("sbom.json", sbom, "application/vnd.cyclonedx+json"),
        "image": ("camera.pyz", image, "application/octet-stream"),
    }
    return _check_published(place, place.api.post_multipart("/releases", fields))


def _check_published(place: Place, release: dict[str, Any]) -> dict[str, Any]:
    if release["state"] != "published":
        version = release["version"]
        raise ConflictError(
            f"release {version} of {place.model}: expected it published, found it {release['state']}",
            hint=f"Two operators approve it: fleetward release approve {place.model} {version}",
        )
    return release


def wait_for_event(place: Place, since: datetime, kind: str, **details: object) -> dict[str, Any]:
    """Return the first event of this device since then. Raises UnavailableError after 90 s."""
    deadline, found = time.monotonic() + _STEP_TIMEOUT_S, []
    while time.monotonic() < deadline:
        found = place.api.get("/events", device=place.device, since=render_time(since), limit=5000)["events"]
        for event in found:
            if event["kind"] == kind and all(event["details"].get(k) == v for k, v in details.items()):
                return dict(event)
        time.sleep(_POLL_S)
    last = f"; the last: {found[-1]['message']}" if found else ""
    raise UnavailableError(
        f"{place.device}: expected {kind} within {_STEP_TIMEOUT_S:.0f} s, found {len(found)} others{last}",
        hint=f"Its log: {place.folder / 'device.log'}",
    )


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Return once `holds`. Raises UnavailableError after 90 s."""
    deadline = time.monotonic() + _STEP_TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            raise UnavailableError(f"expected {what} within {_STEP_TIMEOUT_S:.0f} s, found it not")
        time.sleep(_POLL_S)


def _introduce(narrator: Narrator, *, is_tpm: bool) -> None:
    narrator.say()
    if is_tpm:
        narrator.say(
            "A smart camera, from the factory to its first update. Its keys live in a TPM 2.0 (swtpm)."
        )
    else:
        narrator.say("A smart camera WITHOUT a chip: swtpm or tpm2-pytss is not installed here.")
        narrator.say("Its keys lie in files (tier: software), it cannot attest, and its model says so.")
        narrator.say(
            "For the whole life: apt-get install swtpm swtpm-tools libtss2-dev, then ./dev up again."
        )
    narrator.say()


def _make_device(stack: ExitStack, narrator: Narrator, place: Place, *, is_tpm: bool) -> Chip | None:
    maker, chip = ChipMaker(place.folder.parent / "chip-maker"), None
    with narrator.step("made", "Made") as step:
        if is_tpm:
            maker.make(place.folder / "chip")
            chip = stack.enter_context(Chip(place.folder / "chip"))
        step.result = (
            "a chip with an endorsement key its maker certified" if chip else "no chip on this machine"
        )
    with narrator.step("provisioned", "Provisioned at the factory") as step:
        provision(place, chip, maker if chip else None)
        how = "a signed shipment manifest names its chip" if chip else "a single-use claim"
        step.result = f"firmware {FIRST} in slot a; {how}"
    return chip


def _live(narrator: Narrator, place: Place, machine: Machine, *, is_tpm: bool) -> None:
    started = SystemClock().now()
    is_new = place.api.get(f"/devices/{place.device}")["state"] == "registered"
    machine.start()
    if is_new:
        with narrator.step("enrolled", "Enrolled") as step:
            event = wait_for_event(place, started, "certificate.issued")
            step.result = f"a certificate until {event['details']['not_after']}"
    if is_tpm:
        with narrator.step("attested", "Booted and attested") as step:
            event = wait_for_event(place, started, "attestation.appraised")
            step.result = f"firmware {event['details']['firmware_version']} measured, quoted, as published"
    with narrator.step("connected", "Verified session") as step:
        wait_for_event(place, started, "session.opened")
        step.result = "MQTT over mutual TLS, its own topics only"
    with narrator.step("telemetry", "Telemetry") as step:
        wait_until(lambda: bool(_telemetry(place)), "telemetry")
        step.result = f"for example {json.dumps(_telemetry(place)[-1]['value'])}"
    with narrator.step("command", "Command") as step:
        step.result = f"ping: {_ping(place)}"
    if shutil.which("ffmpeg") is not None:
        with narrator.step("video", "Video") as step:
            picture = watch_once(place.api, place.device)
            step.result = (
                f"{picture.codec} by a single-use ticket, first picture after {picture.after_s:.1f} s"
            )
    else:
        narrator.say("   Video                      left out: ffmpeg is not installed")
    with narrator.step("updated", "Updated by itself") as step:
        publish(place, SECOND)
        wait_until(lambda: _firmware(place) == SECOND, f"firmware {SECOND} confirmed")
        step.result = f"firmware {SECOND}: downloaded, verified, tried, confirmed"


def _say_what_next(narrator: Narrator, data: Path, place: Place) -> None:
    program = _own_program()
    command = f"{program} --data {data}"
    narrator.say()
    narrator.say(f"The platform stays up: {place.ready['console']}  (Ctrl-C ends it)")
    narrator.say("Now try, in another terminal:")
    for text in (
        f"{command} device show {place.device}",
        f"{command} device watch {place.device}",
        f"{command} events --follow",
        f"{command} audit verify",
        f"{command} device view {place.device}",
        f"{program} demo attack all --data {data}",
        f"{command} device quarantine {place.device}",
    ):
        narrator.say(f"  {text}")
    narrator.say()


def _own_program() -> str:
    """Return how people call us: by name where PATH has it, else by path, relative when that is shorter."""
    if shutil.which("fleetward") is not None:
        return "fleetward"
    path = Path(sys.executable).with_name("fleetward")
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _install_first_firmware(place: Place) -> None:
    publish(place, FIRST)
    release = f"/releases/{place.model}/{FIRST}"
    image = place.folder / "factory-image"
    image.write_bytes(place.api.get_bytes(f"{release}/image"))
    prepare_slot(place.slots, image, place.api.get_bytes(f"{release}/manifest"))
    image.unlink()
    trust = place.api.get("/trust/updates")
    (place.folder / "tuf-root.json").write_text(trust["tuf_root"])
    (place.folder / "firmware-keys.json").write_text(trust["firmware_keys"])


def _ship(place: Place, chip: Chip) -> None:
    """Have the factory name the chip in a shipment, and the platform import it; a known one stays."""
    factory, manifest = place.factory, place.folder / "shipment.dsse"
    factory.mkdir(mode=0o700, exist_ok=True)
    if not manifest.exists():
        _fleetward(
            "factory", "provision", "--model", place.model, "--name", "demo-factory", "--id", place.device,
            "--key", str(factory / "signing.pem"), "--tcti", chip.tcti, "--out", str(manifest), "--json",
        )  # fmt: skip
    body = {"name": "demo-factory", "public_key": (factory / "demo-factory.pem").read_text()}
    place.api.post("/factories", body)
    place.api.send("/devices/import", manifest.read_bytes(), content_type="application/octet-stream")


def _claim(place: Place) -> None:
    known = {device["id"] for device in place.api.get("/devices", search=place.device)["devices"]}
    if place.device not in known:
        added = place.api.post("/devices", {"id": place.device, "model": place.model})
        write_secret(place.folder / "claim", added["claim"].encode())


def _fleetward(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleetward", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise UnavailableError(f"fleetward {arguments[0]} {arguments[1]}: {done.stderr.strip()[-500:]}")


def _telemetry(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = place.api.get(f"/devices/{place.device}/telemetry", limit=5)["records"]
    return found


def _firmware(place: Place) -> str | None:
    found: str | None = place.api.get(f"/devices/{place.device}")["firmware_version"]
    return found


def _ping(place: Place) -> str:
    path = f"/devices/{place.device}/commands"
    sent = place.api.post(path, {"name": "ping", "args": {}, "timeout_s": 20})
    wait_until(lambda: place.api.get(f"{path}/{sent['id']}")["state"] not in ("queued", "sent"), "an answer")
    return str(place.api.get(f"{path}/{sent['id']}")["state"])
