"""The database goes away while devices send: what was acknowledged waits; nobody is blamed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetward.features.messaging import service
from fleetward.outside.nats.ingest import NAME
from fleetward.outside.nats.streams import MQTT_MESSAGES
from support.broker import Issued, Rig, wait_for
from support.postgres import PostgresServer, postgres_server
from support.raw_mqtt import RawDevice

# Within a device's budget of told lines, which is no part of this.
_MESSAGES = 15
_DEVICE = "cam-1"
_PHASES = 3


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def rig(server: PostgresServer, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, server.url(server.create_database()))
    rig.start()
    yield rig
    rig.close()


def send(device: RawDevice, phase: int) -> None:
    """Publish readings, lines that become events, and reports, each acknowledged by the broker."""
    numbers = range(phase * _MESSAGES, (phase + 1) * _MESSAGES)
    lines = [json.dumps({"event": "boot.refused", "n": one}).encode() for one in numbers]
    reports = [json.dumps({"version": one + 1, "state": {"n": one}}).encode() for one in numbers]
    assert device.publish("t/n", [str(one).encode() for one in numbers]) == _MESSAGES
    assert device.publish("log", lines) == _MESSAGES
    assert device.publish("shadow/reported", reports) == _MESSAGES


def waiting(rig: Rig) -> tuple[int, int]:
    """Return how many messages are not yet acknowledged by the intake, and how many came again."""
    info = rig.loop.run(rig.messaging.shared.js.consumer_info(MQTT_MESSAGES, NAME))
    return (info.num_pending or 0) + (info.num_ack_pending or 0), info.num_redelivered or 0


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_what_comes_while_the_database_is_away_is_kept_when_it_is_back(
    server: PostgresServer, rig: Rig, mode: str
) -> None:
    issued = rig.enroll(_DEVICE)
    with RawDevice(rig, issued) as device:
        send(device, 0)
        server.stop(mode)  # in the middle of the batch, or after it
        send(device, 1)
        # Handed back, more than once: the intake met the outage and waits for its end.
        wait_for(lambda: waiting(rig)[0] >= 2 * _MESSAGES and waiting(rig)[1] > 0, timeout_s=60)
        server.start()
        send(device, 2)
    wait_for(lambda: waiting(rig)[0] == 0, timeout_s=60)
    assert_all_kept(rig, issued)
    assert rig.messaging.dead_letters.list_dead_letters(10) == []
    for kind in ("deadletter.added", "telemetry.refused", "telemetry.limited"):
        assert rig.events(kind) == []


def assert_all_kept(rig: Rig, issued: Issued) -> None:
    everything = list(range(_PHASES * _MESSAGES))
    archive = rig.messaging.archive
    for kind, stream in (("telemetry", "n"), ("log", "")):
        found = [one.value for one in archive.read_last(issued.device, kind, stream, 1000)]
        assert sorted(one["n"] if kind == "log" else one for one in found) == everything
    told = [event.details["said"]["n"] for event in rig.events("boot.refused", issued.device)]
    assert sorted(told) == everything
    with rig.db.read() as tx:
        assert service.get_shadow(tx, issued.device).reported == {"n": everything[-1]}
