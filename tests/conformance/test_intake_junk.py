"""Junk of one device among a neighbour's good messages, through the whole intake and both databases.

Every message is accounted for: kept, refused, or among the dead letters. `FLEETWARD_SEED=…` repeats a run.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock

import pytest

from fleetward.base.errors import InvalidInputError
from fleetward.base.events import list_events
from fleetward.base.feature import Feature
from fleetward.features.messaging import service
from fleetward.features.messaging.intake.batch import Batch, Item, repeat_key
from fleetward.features.messaging.model import CommandState
from fleetward.outside.nats.ingest import NAME
from fleetward.outside.nats.streams import MQTT_MESSAGES
from fleetward.programs.server.doors import DOORS
from fleetward.wire.mqtt_topics import parse_subject
from fleetward.wire.telemetry import Reading
from support.broker import Issued, Rig, wait_for
from support.junk import Junk, JunkMaker
from support.postgres import database_url
from support.raw_mqtt import HungUpError, RawDevice
from support.seeds import new_seed

_ROUNDS = 15
_JUNK_A_ROUND = 30
_MARKER = b'"still there"'
_KINDS_OF_RECORDS = ("telemetry", "log", "metrics")


@dataclass
class Seen:
    """A stage of the intake that lets everything pass and remembers it."""

    items: dict[tuple[str, bytes], Item] = field(default_factory=dict)
    refused: set[tuple[str, bytes]] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def __call__(self, batch: Batch, _now: datetime) -> Batch:
        with self._lock:
            for item in batch.items:
                self.items[(item.message.topic.subject, item.message.unverified_payload)] = item
            for one in batch.refused:
                if not one.limit:
                    self.refused.add((one.message.topic.subject, one.message.unverified_payload))
        return batch

    def has(self, message: tuple[str, bytes]) -> bool:
        with self._lock:
            return message in self.items or message in self.refused


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(params=["sqlite", "postgresql"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, seen: Seen) -> Iterator[Rig]:
    with database_url(request) as url:
        rig = Rig(tmp_path, url, doors=(*DOORS, Feature("seen", stages=(seen,))))
        rig.start()
        yield rig
        rig.close()


def test_junk_of_one_device_harms_no_other_and_every_message_is_accounted_for(rig: Rig, seen: Seen) -> None:
    maker = JunkMaker(random.Random(new_seed()))
    bad, good = rig.enroll("bad-1"), rig.enroll("good-1")
    command, done = rig.command(bad.device, "ping", 600), rig.command(good.device, "ping", 600)
    sent: list[Junk] = []
    with RawDevice(rig, good) as neighbour:
        for number in range(_ROUNDS):
            sent += send(rig, bad, [maker.make(command) for _ in range(_JUNK_A_ROUND)])
            send_good(neighbour, number)
        assert neighbour.publish(f"cmd/{done}/result", [b'{"ok": true, "output": "pong"}']) == 1
    assert len(sent) > _ROUNDS * _JUNK_A_ROUND * 0.8
    wait_for(lambda: is_idle(rig), timeout_s=60)
    readable = {found for one in sent if (found := with_topic(bad.device, one)) is not None}
    wait_for(lambda: not [one for one in readable if not seen.has(one)], timeout_s=30)
    assert_good_is_kept(rig, good.device, done)
    assert_all_accounted_for(rig, bad.device, seen)
    assert seen.refused, "the dice made nothing that is refused"
    assert rig.events("telemetry.refused", bad.device)
    assert_all_can_be_read(rig)
    # And it goes on.
    with RawDevice(rig, bad) as device:
        assert device.publish("t/after", [b'"all is well"']) == 1
    wait_for(lambda: values(rig, bad.device, "telemetry", "after") == ["all is well"])


def send(rig: Rig, bad: Issued, messages: list[Junk]) -> list[Junk]:
    """Publish junk; return what the broker took."""
    taken: list[Junk] = []
    waiting = list(messages)
    while waiting:
        with RawDevice(rig, bad) as device:
            while waiting:
                one = waiting.pop(0)
                try:
                    device.publish(one.levels, [one.payload], qos=one.qos)
                    device.publish("t/marker", [_MARKER])  # acknowledged behind what is not
                except HungUpError:
                    break
                taken.append(one)
    return taken


def send_good(neighbour: RawDevice, number: int) -> None:
    assert neighbour.publish("t/n", [str(number).encode()]) == 1
    assert neighbour.publish("log", [json.dumps({"event": "boot.refused", "n": number}).encode()]) == 1
    assert neighbour.publish("metrics", [json.dumps({"n": number}).encode()]) == 1
    report = {"version": number + 1, "state": {"n": number}}
    assert neighbour.publish("shadow/reported", [json.dumps(report).encode()]) == 1


def is_idle(rig: Rig) -> bool:
    info = rig.loop.run(rig.messaging.shared.js.consumer_info(MQTT_MESSAGES, NAME))
    return not info.num_pending and not info.num_ack_pending


def with_topic(device: str, junk: Junk) -> tuple[str, bytes] | None:
    """Return subject and payload as the intake sees them, None for a topic that is no device's."""
    levels = junk.levels.decode(errors="replace").replace(".", "//").replace("/", ".")
    try:
        return parse_subject(f"d.{device}.{levels}").subject, junk.payload
    except InvalidInputError:
        return None


def values(rig: Rig, device: str, kind: str, stream: str = "") -> list[object]:
    return [one.value for one in rig.messaging.archive.read_last(device, kind, stream, 1000)]


def assert_good_is_kept(rig: Rig, device: str, command: int) -> None:
    everything = list(range(_ROUNDS))
    assert values(rig, device, "telemetry", "n") == everything
    assert values(rig, device, "log") == [{"event": "boot.refused", "n": one} for one in everything]
    assert values(rig, device, "metrics") == [{"n": one} for one in everything]
    told = [event.details["said"]["n"] for event in rig.events("boot.refused", device)]
    assert sorted(told) == everything
    with rig.db.read() as tx:
        assert service.get_shadow(tx, device).reported == {"n": everything[-1]}
    assert rig.command_state(device, command) is CommandState.DONE
    for kind in ("telemetry.refused", "telemetry.limited", "deadletter.added"):
        assert rig.events(kind, device) == []


def assert_all_accounted_for(rig: Rig, device: str, seen: Seen) -> None:
    """What was read is kept, or lies among the dead letters; a repeat is kept once."""
    letters = rig.messaging.dead_letters.list_dead_letters(1000)
    dead = {(one.subject.removeprefix("$MQTT.msgs."), one.payload) for one in letters}
    groups: dict[str, set[str]] = {}
    for key, item in seen.items.items():
        if item.device == device and isinstance(item.value, Reading) and key not in dead:
            name = repeat_key(item.message, item.value) if item.value.id else f"{len(groups)}"
            groups.setdefault(name or "", set()).add(rendered(item.message.topic.kind, item.value.value))
    kept = {rendered(kind, value) for kind in _KINDS_OF_RECORDS for value in values(rig, device, kind)}
    assert [group for group in groups.values() if not group & kept] == []
    assert kept - set().union(*groups.values()) == set()
    assert len(groups) > _ROUNDS, "the dice made nothing that can be read"
    assert {one.device for one in letters} <= {device}


def rendered(kind: str, value: object) -> str:
    return json.dumps([kind, value], sort_keys=True)


def assert_all_can_be_read(rig: Rig) -> None:
    """What was let in breaks nobody who reads it: not the database, not a strict writer of JSON."""
    with rig.db.read() as tx:
        for device in ("bad-1", "good-1"):
            shadow = service.get_shadow(tx, device)
            commands = service.list_commands(tx, device, limit=100)
            answers = [
                (one.result and one.result.output, one.result and one.result.error) for one in commands
            ]
            json.dumps([shadow.reported, answers], allow_nan=False, ensure_ascii=False).encode()
        events = [(one.message, one.details) for one in list_events(tx, limit=5000)]
        json.dumps(events, allow_nan=False, ensure_ascii=False).encode()
