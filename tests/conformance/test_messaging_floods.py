"""One device that floods is cut off, told and let in again; the others lose nothing by it."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from fleetward.base.events import Severity
from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging import service, store
from fleetward.features.messaging.service.floods import FLOOD_PAUSE
from fleetward.features.messaging.service.holds import MAX_HOLDS
from fleetward.outside.nats.config import MAX_PAYLOAD_BYTES
from fleetward.outside.nats.half_received import MAX_HALF_RECEIVED, session_subject
from fleetward.outside.nats.streams import MQTT_HALF_RECEIVED, MQTT_SESSIONS
from support.broker import Issued, Rig, wait_for
from support.raw_mqtt import HungUpError, RawDevice

TOO_MANY = MAX_HALF_RECEIVED + 1


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("floods"))
    rig.start()
    yield rig
    rig.close()


def half_received(rig: Rig) -> dict[str, int]:
    """Return how many messages nats-server holds half received."""
    js = rig.messaging.shared.js
    info = rig.loop.run(js.stream_info(MQTT_HALF_RECEIVED, subjects_filter="$MQTT.qos2.in.>"))
    found: dict[str, int] = {}
    for subject in info.state.subjects or {}:
        name = subject.split(".")[3]
        found[name] = found.get(name, 0) + 1
    return found


def held(rig: Rig, device: str) -> list[str]:
    with rig.db.read() as tx:
        return [hold.name for hold in service.list_holds(tx, device)]


def is_let_in(rig: Rig, issued: Issued) -> bool:
    try:
        RawDevice(rig, issued).__exit__(None, None, None)
    except ConnectionRefusedError:
        return False
    return True


def sweep(rig: Rig) -> None:
    worker: Any = rig.messaging.worker
    worker._half_received._swept_s = 0.0
    rig.loop.run(worker._half_received.look())


def test_who_begins_messages_and_releases_none_is_cut_off_and_keeps_no_room(rig: Rig) -> None:
    greedy, honest = rig.enroll("greedy-1"), rig.enroll("honest-1")
    with RawDevice(rig, greedy) as client:
        client.begin("t/n", [b"x" * 1000] * TOO_MANY)
        client.wait_for_end()
    event = rig.wait_for_event("device.flooding", "greedy-1")
    assert "QoS 2" in event.message
    assert held(rig, "greedy-1") == ["flooding"]
    wait_for(lambda: "greedy-1" not in half_received(rig))
    wait_for(lambda: not is_let_in(rig, greedy))
    assert rig.publish(honest, "d/honest-1/t/n", "1", qos=2).returncode == 0


def test_as_many_as_a_client_may_have_under_way_are_left_to_it(rig: Rig) -> None:
    busy = rig.enroll("busy-1")
    with RawDevice(rig, busy) as client:
        client.begin("t/n", [b"1"] * MAX_HALF_RECEIVED)
        wait_for(lambda: half_received(rig).get("busy-1") == MAX_HALF_RECEIVED)
        sweep(rig)
        assert half_received(rig)["busy-1"] == MAX_HALF_RECEIVED
    assert held(rig, "busy-1") == []


def test_what_nobody_will_release_is_dropped_and_what_a_session_can_is_not(rig: Rig) -> None:
    fleeting, lasting = rig.enroll("fleeting-1"), rig.enroll("lasting-1")
    with RawDevice(rig, fleeting) as one, RawDevice(rig, lasting, is_clean=False) as other:
        one.begin("t/n", [b"1"])
        other.begin("t/n", [b"1"])
        wait_for(lambda: {"fleeting-1", "lasting-1"} <= half_received(rig).keys())
    worker: Any = rig.messaging.worker
    wait_for(lambda: "fleeting-1" not in worker.sessions and "lasting-1" not in worker.sessions)
    sweep(rig)
    assert "fleeting-1" not in half_received(rig)
    assert half_received(rig)["lasting-1"] == 1


def test_a_device_that_will_never_return_keeps_nothing(rig: Rig) -> None:
    gone = rig.enroll("gone-1")
    with RawDevice(rig, gone, is_clean=False) as client:
        client.begin("t/n", [b"1"])
        wait_for(lambda: "gone-1" in half_received(rig))
        rig.transition("gone-1", DeviceState.REVOKED)
        client.wait_for_end()
    worker: Any = rig.messaging.worker
    wait_for(lambda: "gone-1" not in worker.sessions)
    sweep(rig)
    assert "gone-1" not in half_received(rig)


@pytest.mark.parametrize("qos", [0, 1])
def test_who_sends_junk_without_end_is_cut_off_and_let_in_again(rig: Rig, qos: int) -> None:
    device = f"junk-{qos}"
    issued = rig.enroll(device)
    with RawDevice(rig, issued) as client, pytest.raises(HungUpError):
        client.publish("t/n", itertools.repeat(b"{"), qos=qos)
    assert "500 messages" in rig.wait_for_event("device.flooding", device).message
    wait_for(lambda: not is_let_in(rig, issued))
    lift(rig)
    assert held(rig, device) == ["flooding"], "its time is not over"
    with rig.db.write("system:test") as tx:
        tx.conn.execute(sa.update(store.holds).values(since=tx.now - FLOOD_PAUSE))
    lift(rig)
    assert held(rig, device) == []
    wait_for(lambda: is_let_in(rig, issued))


@pytest.mark.parametrize(
    ("topic", "size", "what"),
    [("t/a b", 1, "a space"), ("t/#", 1, "a wildcard"), ("t/n", MAX_PAYLOAD_BYTES + 1, "131072 bytes")],
)
def test_what_ends_a_connection_is_told(rig: Rig, topic: str, size: int, what: str) -> None:
    device = f"cut-{len(what)}"
    with RawDevice(rig, rig.enroll(device)) as client, pytest.raises(HungUpError):
        client.publish(topic, [b"x" * size])
    assert what in rig.wait_for_event("publish.refused", device).message


def test_a_refused_topic_is_told_as_mqtt_writes_it(rig: Rig) -> None:
    with RawDevice(rig, rig.enroll("dotted-1")) as client:
        assert client.publish("t/a.b", [b"1"]) == 1
    assert "d/dotted-1/t/a.b" in rig.wait_for_event("telemetry.refused", "dotted-1").message


def test_no_client_id_is_a_mishap_and_anothers_an_attack(rig: Rig) -> None:
    nameless = rig.enroll("nameless-1")
    rig.enroll("victim-1")
    with pytest.raises(ConnectionRefusedError):
        RawDevice(rig, replace(nameless, device=""))
    [found] = wait_for(lambda: rig.events("session.refused", "nameless-1"))
    assert found.severity is Severity.WARNING
    assert "makes up such a name" in found.message
    with pytest.raises(ConnectionRefusedError):
        RawDevice(rig, replace(nameless, device="victim-1"))
    found = wait_for(lambda: rig.events("session.refused", "nameless-1")[1:])[0]
    assert found.severity is Severity.CRITICAL, "nor does a mishap before it hold it back"


def test_a_reading_that_grows_too_large_when_it_is_kept_is_refused(rig: Rig) -> None:
    with RawDevice(rig, rig.enroll("growing-1")) as client:
        assert client.publish("t/n", [b"[" + b",".join([b"1e15"] * 12_000) + b"]"]) == 1
    assert "as it is kept" in rig.wait_for_event("telemetry.refused", "growing-1").message


def test_a_device_that_is_held_so_or_gone_is_told_once(rig: Rig) -> None:
    rig.enroll("told-1")
    with rig.db.write("system:test") as tx:
        assert service.hold_flooding(tx, "told-1", "it floods")
        assert not service.hold_flooding(tx, "told-1", "it floods more")
        assert not service.hold_flooding(tx, "nobody-1", "it floods")
    assert len(rig.events("device.flooding", "told-1")) == 1
    assert rig.events("device.flooding", "nobody-1") == []


def test_a_device_that_others_hold_already_is_told_all_the_same(rig: Rig) -> None:
    rig.enroll("held-1")
    with rig.db.write("system:test") as tx:
        for number in range(MAX_HOLDS):
            service.set_hold(tx, "held-1", f"hold-{number}", "a test")
        assert service.hold_flooding(tx, "held-1", "it floods")
    assert "flooding" not in held(rig, "held-1")


def test_sessions_are_kept_under_the_name_we_look_for(rig: Rig) -> None:
    with RawDevice(rig, rig.enroll("kept-1"), is_clean=False):
        js = rig.messaging.shared.js
        wait_for(lambda: rig.loop.run(js.get_last_msg(MQTT_SESSIONS, session_subject("kept-1"))))


def lift(rig: Rig) -> None:
    with rig.db.write("system:test") as tx:
        service.lift_floods(tx)
