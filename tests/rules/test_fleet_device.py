"""A simulated device: one seed, one behaviour; nothing acknowledged goes again; faults are what they say."""

import json
from typing import Any

import pytest

from fleetward.base.errors import InvalidInputError
from fleetward.programs.simulator.fleet.device import (
    MAX_HELD,
    Action,
    Behaviour,
    FleetDevice,
    Leave,
    LookForUpdate,
    Renew,
    Send,
)
from fleetward.programs.simulator.fleet.dice import Dice
from fleetward.programs.simulator.fleet.faults import Fault, faults_of, parse_faults
from fleetward.programs.simulator.fleet.profiles import PROFILES, find_profile, measure, report_metrics
from fleetward.wire import mqtt_packets as mqtt

_START = 1_780_000_000.0


def device(*faults: Fault, seed: int = 7, telemetry_s: float = 10.0, metrics_s: float = 1e9) -> FleetDevice:
    behaviour = Behaviour(PROFILES["camera"], telemetry_s, metrics_s, "run", _START)
    return FleetDevice(
        "sim-1", behaviour, Dice(seed, 1), faults=frozenset(faults), neighbour="sim-2", firmware="1.0.0"
    )


def packets(actions: list[Action]) -> list[mqtt.Packet]:
    reader = mqtt.PacketReader()
    return [one for action in actions if isinstance(action, Send) for one in reader.feed(action.content)]


def published(actions: list[Action]) -> list[mqtt.Publish]:
    return [mqtt.parse_publish(one) for one in packets(actions) if one.kind == mqtt.PUBLISH]


def puback(number: int) -> mqtt.Packet:
    [packet] = mqtt.PacketReader().feed(mqtt.render_puback(number))
    return packet


def suback(*codes: int) -> mqtt.Packet:
    return mqtt.Packet(mqtt.SUBACK, 0, b"\x00\x01" + bytes(codes))


def down(topic: str, value: Any, number: int = 4) -> mqtt.Packet:
    [packet] = mqtt.PacketReader().feed(mqtt.render_publish(topic, json.dumps(value).encode(), number))
    return packet


def command(name: str, number: int = 5) -> mqtt.Packet:
    body = {"id": number, "name": name, "args": {}, "expires_at": "2099-01-01T00:00:00Z"}
    return down(f"d/sim-1/cmd/{number}", body)


def live(*faults: Fault, **settings: Any) -> FleetDevice:
    found = device(*faults, **settings)
    found.accepted(_START)
    found.received(suback(0, 0), _START)
    return found


def run(found: FleetDevice, until_s: float) -> list[mqtt.Publish]:
    said: list[mqtt.Publish] = []
    while found.next_at <= until_s:
        said += published(found.tick(found.next_at))
    return said


def test_the_same_seed_says_the_same_and_another_does_not() -> None:
    first, again, other = (run(live(seed=seed), _START + 100) for seed in (7, 7, 8))
    assert first == again
    assert [one.payload for one in first] != [one.payload for one in other]


def test_a_reading_waits_for_its_acknowledgement_and_goes_again_until_then() -> None:
    found = live()
    [reading] = run(found, found.next_at)
    found.lost()
    first = published(found.accepted(_START + 20))[-1]
    assert first == reading
    found.received(puback(first.number), _START + 21)
    found.lost()
    assert first.payload not in [one.payload for one in published(found.accepted(_START + 22))]
    assert found.acknowledged == 1


def test_an_acknowledgement_of_nothing_counts_nothing() -> None:
    found = live()
    found.received(puback(4_000), _START)
    assert found.acknowledged == 0


def test_readings_taken_without_a_line_are_kept_up_to_a_bound_the_oldest_given_up() -> None:
    found = device(telemetry_s=1.0)
    while found.published < MAX_HELD + 3:
        assert found.tick(found.next_at) == []
    assert (found.held, found.dropped) == (MAX_HELD, 3)
    kept = [json.loads(one.payload)["id"] for one in published(found.accepted(_START + 500))]
    assert kept[0] == "run-4"


def test_it_reports_itself_once_it_is_subscribed() -> None:
    found = device()
    assert [one.kind for one in packets(found.accepted(_START))] == [8]
    [report] = published(found.received(suback(0, 0), _START))
    assert report.topic == "d/sim-1/shadow/reported"
    assert json.loads(report.payload)["state"]["firmware"] == {"version": "1.0.0", "state": "idle"}


def test_a_refused_subscription_is_counted_and_nothing_follows() -> None:
    found = device()
    found.accepted(_START)
    assert found.received(suback(0, 0x80), _START) == []
    assert found.refused == 1


def test_what_is_desired_is_acknowledged_by_its_version() -> None:
    found = live()
    actions = found.received(down("d/sim-1/shadow/desired", {"version": 3, "state": {"interval": 9}}), _START)
    report = json.loads(published(actions)[-1].payload)
    assert report["desired_version"] == 3
    assert report["state"]["interval"] == 9
    assert mqtt.parse_puback(packets(actions)[0]) == 4


@pytest.mark.parametrize(
    ("name", "kind"), [("reboot", Leave), ("renew-now", Renew), ("update-now", LookForUpdate), ("ping", Send)]
)
def test_a_command_is_answered_and_done(name: str, kind: type[Action]) -> None:
    actions = live().received(command(name), _START)
    [result] = [one for one in published(actions) if one.topic == "d/sim-1/cmd/5/result"]
    assert json.loads(result.payload)["ok"] is True
    assert any(isinstance(action, kind) for action in actions)


def test_an_unknown_command_is_refused_and_a_repeat_is_not_done_twice() -> None:
    found = live()
    [result] = published(found.received(command("format"), _START))
    assert json.loads(result.payload)["ok"] is False
    found.received(command("reboot", 6), _START)
    assert not any(isinstance(one, Leave) for one in found.received(command("reboot", 6), _START))


def test_a_message_for_another_device_makes_no_sense() -> None:
    with pytest.raises(InvalidInputError):
        live().received(down("d/sim-2/cmd/5", {}), _START)
    with pytest.raises(InvalidInputError):
        live().received(mqtt.Packet(12, 0, b""), _START)


def test_a_slow_device_answers_later() -> None:
    found = live(Fault.SLOW, telemetry_s=1e9)
    assert not published(found.received(command("ping"), _START))
    assert _START + 5 <= found.next_at <= _START + 30
    [result] = run(found, _START + 31)
    assert result.topic == "d/sim-1/cmd/5/result"


@pytest.mark.parametrize(("fault", "away_s"), [(Fault.FLAPPING, (0.5, 3)), (Fault.OFFLINE, (120, 900))])
def test_a_device_that_loses_its_line_comes_back(fault: Fault, away_s: tuple[float, float]) -> None:
    found = live(fault, telemetry_s=1e9)
    actions: list[Action] = []
    while not any(isinstance(one, Leave) for one in actions):
        found.received(_PINGRESP, found.next_at)
        actions = found.tick(found.next_at)
    [leave] = [one for one in actions if isinstance(one, Leave)]
    assert away_s[0] <= leave.pause_s <= away_s[1]
    found.lost()
    assert found.tick(_START + 5_000) == []


def test_a_healthy_device_stays() -> None:
    found = live(telemetry_s=20.0)
    while found.next_at < _START + 3_000:
        actions = found.tick(found.next_at)
        assert not any(isinstance(one, Leave) for one in actions)
        for one in packets(actions):
            answer = puback(mqtt.parse_publish(one).number) if one.kind == mqtt.PUBLISH else _PINGRESP
            found.received(answer, found.next_at)


_PINGRESP = mqtt.Packet(mqtt.PINGRESP, 0, b"")


def test_a_silent_line_is_asked_and_then_given_up() -> None:
    found = live(telemetry_s=1e9)
    assert found.next_at == _START + 75
    pings = found.tick(_START + 75.5)
    assert pings == [Send(mqtt.PINGREQ_PACKET)]
    assert any(isinstance(one, Leave) for one in found.tick(_START + 241))


def test_a_compromised_device_tries_what_is_not_its_own() -> None:
    found = device(Fault.COMPROMISED, telemetry_s=1e9, metrics_s=30.0)
    filters = b"".join(one.unverified_body for one in packets(found.accepted(_START)))
    assert b"d/sim-2/cmd/+" in filters
    said = run(found, found.next_at)
    assert {one.topic for one in said} == {"d/sim-1/metrics", "d/sim-2/t/intruder"}
    report = next(json.loads(one.payload)["value"] for one in said if one.topic == "d/sim-1/metrics")
    assert report["metrics"]["listening_tcp_ports"]["total"] == len(PROFILES["camera"].ports) + 1


def test_a_healthy_device_reports_what_its_kind_has() -> None:
    report = report_metrics(PROFILES["gateway"], Dice(1, 1), report_id=3, span_s=60.0, is_compromised=False)
    ports = report["metrics"]["listening_tcp_ports"]["ports"]
    assert [one["port"] for one in ports] == list(PROFILES["gateway"].ports)
    assert report["header"] == {"report_id": 3, "version": "1.0"}


def test_counters_only_grow() -> None:
    meter, dice = find_profile("meter"), Dice(1, 1)
    hours = [measure(meter, dice, _START, lived)["kilowatt_hours"] for lived in (0.0, 60.0, 3_600.0)]
    assert hours == sorted(hours)
    assert hours[-1] == pytest.approx(0.9)


def test_firmware_is_reported_as_the_agent_does() -> None:
    found = live()
    [report] = published(found.say_firmware("1.1.0", "trial", _START))
    assert json.loads(report.payload)["state"]["firmware"] == {"version": "1.1.0", "state": "trial"}
    [line] = published(found.tell("update.confirmed", "notice", "well", _START, version="1.1.0"))
    assert json.loads(line.payload)["value"]["event"] == "update.confirmed"


def test_faults_fall_on_the_share_that_was_asked_for_and_always_on_the_same() -> None:
    shares = parse_faults(["slow=0.25", "offline"])
    assert shares == {Fault.SLOW: 0.25, Fault.OFFLINE: 0.1}
    chosen = [faults_of(3, number, shares) for number in range(4_000)]
    assert chosen == [faults_of(3, number, shares) for number in range(4_000)]
    assert sum(Fault.SLOW in one for one in chosen) == pytest.approx(1_000, rel=0.1)
    assert sum(Fault.OFFLINE in one for one in chosen) == pytest.approx(400, rel=0.15)
    assert not any(Fault.ROLLBACK in one for one in chosen)


@pytest.mark.parametrize("text", ["burning", "slow=2", "slow=-0.1", "slow=some", "slow=nan"])
def test_a_fault_that_makes_no_sense_is_named(text: str) -> None:
    with pytest.raises(InvalidInputError, match="fault"):
        parse_faults([text])


def test_an_unknown_profile_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidInputError, match="camera, meter, gateway"):
        find_profile("toaster")
