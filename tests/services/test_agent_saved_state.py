"""Today's agent on the folder of a device of the release before: it goes on where that one stopped.

`saved_agent/README.md` says what is in it and how it was made.
"""

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fleetward.base.clock import SystemClock
from fleetward.features.media.device import Video
from fleetward.features.messaging.device import Telemetry
from fleetward.features.pki.authority.ceremony import FileCa, issue_listener
from fleetward.features.updates.boot.pointer import BootPointer, Slot
from fleetward.features.updates.boot.selection import BootRules, select
from fleetward.features.updates.device.settings import Firmware
from fleetward.outside.slots.counter import COUNTER_FILE, FileCounter
from fleetward.outside.slots.folder import SlotFolder
from fleetward.programs.agent.config import load_agent_config
from fleetward.programs.agent.pinned import load_pinned_keys
from support.agent_peers import PlainBroker, broker_settings
from support.agent_platform import AgentHost, BrokerReader, Where, wait_for

SAVED = Path(__file__).parent / "saved_agent" / "7b9f55b"
_CERTIFICATE = x509.load_pem_x509_certificate((SAVED / "state/certificates/device-1.pem").read_bytes())
while_valid = pytest.mark.skipif(
    SystemClock().now() > _CERTIFICATE.not_valid_after_utc, reason="the saved certificate has ended"
)


@dataclass
class SavedHost(AgentHost):
    """A copy of the saved device; its boot stage, agent and application run as today's."""

    program: tuple[str, ...] = ("fleetward", "agent", "boot", "--config")
    queued: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shutil.copytree(SAVED, self.folder, symlinks=True)
        for secret in (self.folder / "keys").iterdir():
            secret.chmod(0o600)  # as on the device; git keeps no such modes
        self.config_file = self.folder / "agent.toml"
        text = self.config_file.read_text()
        text = re.sub(r'^mqtt = ".*"$', f'mqtt = "{self.where.mqtt}"', text, flags=re.MULTILINE)
        text = re.sub(r'^server = ".*"$', f'server = "{self.where.server}"', text, flags=re.MULTILINE)
        self.config_file.write_text(text)
        self.config = load_agent_config(self.config_file)
        with closing(sqlite3.connect(self.config.state_dir / "spool.sqlite3")) as db:
            messages = [json.loads(row[0]) for row in db.execute("SELECT payload FROM items ORDER BY id")]
        self.queued = {one["id"]: one["value"] for one in messages}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PlainBroker]:
    """A broker with a certificate of the server CA that the device believes."""
    platform = SAVED / "platform"
    key = load_pem_private_key((platform / "server-ca.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    authority = FileCa(x509.load_pem_x509_certificate((platform / "server-ca.crt").read_bytes()), (), key)
    bundle = tmp_path / "server.pem"
    bundle.write_bytes(issue_listener(authority, ["localhost"], timedelta(days=2), SystemClock().now()))
    made = PlainBroker(broker_settings(tmp_path, bundle, bundle, platform / "device-chain.pem"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def host(broker: PlainBroker, tmp_path: Path) -> Iterator[SavedHost]:
    where = Where("https://localhost:1", f"localhost:{broker.mqtt_port}", SAVED / "platform/ca-bundle.pem")
    made = SavedHost(where, "cam-1", tmp_path / "device")
    yield made
    if made.process is not None:
        made.stop()  # not killed: the boot stage ends its children


def test_its_settings_are_read_as_they_were_meant() -> None:
    config = load_agent_config(SAVED / "agent.toml")
    firmware, video, telemetry = (config.find(kind) for kind in (Firmware, Video, Telemetry))
    assert isinstance(firmware, Firmware)
    assert (firmware.model, firmware.command) == ("camera-software", ("{python}", "{image}"))
    assert (firmware.poll_interval, firmware.trial_timeout) == ("5s", "60s")
    assert firmware.slots_dir == (SAVED / "slots").resolve()
    assert video == Video("test")
    assert telemetry == Telemetry("5s")
    assert (config.device_id, config.log_level, config.spool.max_bytes) == ("cam-1", "info", 64 * 1024 * 1024)


@while_valid
def test_it_connects_as_who_it_was_and_hands_in_what_waited(host: SavedHost, broker: PlainBroker) -> None:
    kept = {name: (host.folder / name).read_bytes() for name in ("keys/device-1.key.pem",)}
    before = json.loads((host.config.state_dir / "enrollment.json").read_bytes())["current"]
    assert len(host.queued) == 25
    reader = BrokerReader(broker.nats_port, [])
    try:
        host.start()
        wait_for(lambda: host.status.get("session", {}).get("connected"), "a session")
        wait_for(lambda: host.queued.keys() <= {one.get("id") for _, one in reader.messages}, "the queue")
        found = {one["id"]: one["value"] for _, one in reader.messages if one.get("id") in host.queued}
        assert found == host.queued
        counted = [one["value"] for subject, one in reader.messages if subject == "d.cam-1.t.count"]
        assert counted == list(range(20))
        wait_for(lambda: host.count_queued() < 5, "a queue that was emptied")
        wait_for(lambda: "slots" in shadow(reader)["state"].get("firmware", {}), "its firmware's state")
        wait_for(lambda: host.status["application"] == "ok", "the application's health")
    finally:
        reader.close()
    enrollment = host.status["enrollment"]
    assert (enrollment["phase"], enrollment["certificate"]) == ("enrolled", "device-1")
    after = json.loads((host.config.state_dir / "enrollment.json").read_bytes())["current"]
    assert after == before
    assert {name: (host.folder / name).read_bytes() for name in kept} == kept
    reported = shadow(reader)
    assert reported["version"] >= 17
    assert reported["desired_version"] == 1
    assert reported["state"]["telemetry"] == {"interval": "7s"}
    slots = reported["state"]["firmware"]["slots"]
    assert (slots["running"], slots["confirmed"], slots["trial"]) == ("b", "b", None)
    assert slots["versions"] == {"a": "1.0.0", "b": "1.1.0"}
    assert "Traceback" not in (host.folder / "agent.log").read_text()
    assert not host.is_logged("ability_failed")
    assert not host.is_logged("queue_reset")


def shadow(reader: BrokerReader) -> dict[str, Any]:
    """Return the last shadow it reported."""
    found = [one for subject, one in reader.messages if subject == "d.cam-1.shadow.reported"]
    return dict(found[-1]) if found else {"state": {}}


def test_it_boots_the_slot_it_had_confirmed_and_counts_on(host: SavedHost) -> None:
    host.start()
    record = host.config.state_dir / "boot.json"
    before = json.loads(record.read_bytes())["boot_id"]
    wait_for(lambda: record.exists() and json.loads(record.read_bytes())["boot_id"] != before, "a boot")
    booted = json.loads(record.read_bytes())
    assert (booted["slot"], booted["version"], booted["security_counter"]) == ("b", "1.1.0", 2)
    assert not booted["is_trial"]
    assert booted["refused"] == []
    assert FileCounter(host.config.state_dir / COUNTER_FILE).read_counter() == 2


def test_its_old_release_may_not_come_back(host: SavedHost) -> None:
    firmware = host.config.find(Firmware)
    assert firmware is not None
    counter = FileCounter(host.config.state_dir / COUNTER_FILE).read_counter()
    slots = SlotFolder(firmware.slots_dir)
    rules = BootRules(load_pinned_keys(firmware.keys_file), firmware.model, counter)
    selection = select(BootPointer(Slot.A), slots.read, rules)
    assert selection.chosen is not None
    assert selection.chosen.slot is Slot.B
    assert [one.slot for one in selection.refused] == [Slot.A]


@while_valid
def test_a_device_without_slots_goes_on_with_the_agent_alone(host: SavedHost) -> None:
    text = host.config_file.read_text()
    cut = re.sub(r"\[firmware\].*?(?=\[video\])", "", text, flags=re.DOTALL)
    host.config_file.write_text(cut)
    host.program = ("fleetward", "agent", "run", "--config")
    host.start()
    wait_for(lambda: host.status.get("session", {}).get("connected"), "a session")
    assert host.status["updates"] is None
