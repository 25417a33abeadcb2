"""What devices send up and get down, through a real nats-server: telemetry, log, shadow, commands, watch."""

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging import service
from fleetward.features.messaging.model import CommandState
from fleetward.features.messaging.ports import WatchItem
from fleetward.wire.telemetry import Record, render_reading
from support.broker import Rig, wait_for


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("rig"))
    rig.start()
    yield rig
    rig.close()


def read(rig: Rig, device: str, stream: str = "", kind: str = "telemetry", limit: int = 1000) -> list[Record]:
    return rig.messaging.archive.read_last(device, kind, stream, limit)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_telemetry_is_kept_whatever_its_quality_of_service(rig: Rig, qos: int) -> None:
    device = rig.enroll(f"sensor-q{qos}")
    assert rig.publish(device, f"d/{device.device}/t/temp", '{"celsius": 21}', qos=qos).returncode == 0
    (record,) = wait_for(lambda: read(rig, device.device, "temp"))
    assert (record.kind, record.stream, record.value) == ("telemetry", "temp", {"celsius": 21})


def test_log_lines_and_metrics_are_kept_apart(rig: Rig) -> None:
    device = rig.enroll("chatty-1")
    rig.publish(device, "d/chatty-1/log", "lens cleaned")
    rig.publish(device, "d/chatty-1/metrics", '{"cpu": 3}')
    assert wait_for(lambda: read(rig, "chatty-1", kind="log"))[0].value == "lens cleaned"
    assert wait_for(lambda: read(rig, "chatty-1", kind="metrics"))[0].value == {"cpu": 3}
    assert read(rig, "chatty-1") == []


def test_the_last_records_come_oldest_first(rig: Rig) -> None:
    device = rig.enroll("steady-1")
    command = rig.mosquitto("mosquitto_pub", device, "-q", "1", "-t", "d/steady-1/t/n", "-l")
    lines = "".join(f"{number}\n" for number in range(300))
    subprocess.run(command, input=lines, text=True, check=True, timeout=30)
    wait_for(lambda: len(read(rig, "steady-1", "n")) == 300)
    assert [record.value for record in read(rig, "steady-1", "n", limit=5)] == [295, 296, 297, 298, 299]


def test_a_message_that_was_sent_again_is_kept_once(rig: Rig) -> None:
    device = rig.enroll("again-1")
    payload = render_reading(7, message_id="m-1", at=datetime(2026, 6, 1, tzinfo=UTC)).decode()
    for _ in range(3):
        rig.publish(device, "d/again-1/t/n", payload)
    rig.publish(device, "d/again-1/t/n", "8")
    wait_for(lambda: [record.value for record in read(rig, "again-1", "n")] == [7, 8])
    assert read(rig, "again-1", "n")[0].device_time == "2026-06-01T00:00:00.000Z"


@pytest.mark.parametrize("payload", ['{"a":', "[" * 40 + "]" * 40, "x" * 70_000, '{"id": 5, "value": 1}'])
def test_bad_payloads_are_told_and_nothing_stops(rig: Rig, payload: str) -> None:
    device = rig.enroll(f"clumsy-{len(payload)}")
    rig.publish(device, f"d/{device.device}/t/n", payload)
    rig.wait_for_event("telemetry.refused", device.device)
    rig.publish(device, f"d/{device.device}/t/n", "1")
    assert wait_for(lambda: read(rig, device.device))[0].value == 1


def test_a_command_goes_down_and_its_result_closes_it(rig: Rig) -> None:
    device = rig.enroll("worker-1")
    with rig.subscriber(device, "d/worker-1/cmd/+") as subscriber:
        number = rig.command("worker-1", "ping")
        wait_for(lambda: subscriber.messages)
        topic, body = subscriber.messages[0]
        assert topic == f"d/worker-1/cmd/{number}"
        assert (body["id"], body["name"]) == (number, "ping")
        assert rig.command_state("worker-1", number) in (CommandState.QUEUED, CommandState.SENT)
    rig.publish(device, f"d/worker-1/cmd/{number}/result", '{"ok": true, "output": "pong"}')
    wait_for(lambda: rig.command_state("worker-1", number) is CommandState.DONE)
    rig.publish(device, f"d/worker-1/cmd/{number}/result", '{"ok": false, "error": "late"}')
    rig.publish(device, f"d/worker-1/cmd/{number}/result", '{"ok": "maybe"}')
    rig.wait_for_event("telemetry.refused", "worker-1")
    assert rig.command_state("worker-1", number) is CommandState.DONE
    assert len(rig.events("command.done", "worker-1")) == 1


def test_a_command_for_an_absent_device_waits_for_it(rig: Rig) -> None:
    device = rig.enroll("absent-1")
    number = rig.command("absent-1", "ping")
    with rig.subscriber(device, "d/absent-1/cmd/+") as subscriber:
        wait_for(lambda: subscriber.messages)
        assert subscriber.messages[0][0] == f"d/absent-1/cmd/{number}"


def test_a_command_without_answer_is_sent_again(rig: Rig) -> None:
    device = rig.enroll("deaf-1")
    with rig.subscriber(device, "d/deaf-1/cmd/+") as subscriber:
        rig.command("deaf-1", "ping")
        wait_for(lambda: len(subscriber.messages) >= 2)
        assert len({json.dumps(message) for message in subscriber.messages}) == 1


def test_a_command_times_out(rig: Rig) -> None:
    rig.enroll("slow-1")
    number = rig.command("slow-1", "ping", timeout_s=1)
    wait_for(lambda: rig.command_state("slow-1", number) is CommandState.TIMED_OUT)
    assert rig.events("command.timed_out", "slow-1")


def test_a_device_may_not_answer_another_devices_command(rig: Rig) -> None:
    rig.enroll("honest-1")
    other = rig.enroll("liar-1")
    number = rig.command("honest-1", "ping")
    rig.publish(other, f"d/liar-1/cmd/{number}/result", '{"ok": true}')
    rig.publish(other, "d/liar-1/t/n", "1")
    wait_for(lambda: read(rig, "liar-1"))
    assert rig.command_state("honest-1", number) in (CommandState.QUEUED, CommandState.SENT)


def test_desired_state_goes_down_and_reported_state_comes_up(rig: Rig) -> None:
    device = rig.enroll("shadow-1")
    with rig.subscriber(device, "d/shadow-1/shadow/desired") as subscriber:
        with rig.db.write("operator:test") as tx:
            service.set_desired(tx, "shadow-1", {"rate": 5})
        wait_for(lambda: subscriber.messages)
        assert subscriber.messages[0][1] == {"version": 1, "state": {"rate": 5}}
    rig.publish(
        device,
        "d/shadow-1/shadow/reported",
        '{"version": 3, "state": {"rate": 5, "fw": "1"}, "desired_version": 1}',
    )

    def reported() -> dict[str, object]:
        with rig.db.read() as tx:
            return service.get_shadow(tx, "shadow-1").reported

    wait_for(lambda: reported() == {"rate": 5, "fw": "1"})
    rig.publish(device, "d/shadow-1/shadow/reported", '{"version": 2, "state": {"rate": 1}}')
    rig.publish(device, "d/shadow-1/t/n", "1")
    wait_for(lambda: read(rig, "shadow-1"))
    assert reported() == {"rate": 5, "fw": "1"}


def test_a_watcher_sees_what_a_device_does(rig: Rig) -> None:
    device = rig.enroll("seen-1")
    found: list[WatchItem] = []

    async def collect(items: AsyncIterator[WatchItem]) -> None:
        async for item in items:
            found.append(item)  # noqa: PERF401 - it never ends

    async def begin() -> None:
        rig.loop.tasks.append(rig.loop.loop.create_task(collect(rig.messaging.archive.watch("seen-1"))))

    rig.loop.run(begin())
    wait_for(lambda: rig.publish(device, "d/seen-1/t/n", "1").returncode == 0 and len(found) > 1)
    rig.publish(device, "d/seen-1/log", "hello")
    rig.publish(device, "d/seen-1/shadow/reported", '{"version": 1, "state": {}}')
    wait_for(lambda: {item.kind for item in found} >= {"telemetry", "log", "shadow", "presence"})
    assert all(item.device == "seen-1" for item in found)


def test_a_broker_that_dies_comes_back_with_everything_acknowledged(rig: Rig) -> None:
    device = rig.enroll("hardy-1")
    command = rig.mosquitto("mosquitto_pub", device, "-q", "1", "-t", "d/hardy-1/t/n", "-l", "-d")
    with subprocess.Popen(
        ["stdbuf", "-oL", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        acknowledged = set()
        for number in range(2_000):
            client.stdin.write(f"{number}\n")
        client.stdin.flush()
        for line in client.stdout:
            if "received PUBACK" in line:
                acknowledged.add(line)
                if len(acknowledged) == 500:
                    child = rig.messaging.child
                    assert child is not None
                    assert child.pid is not None
                    os.kill(child.pid, signal.SIGKILL)
                    break
        client.kill()
    rig.wait_for_event("broker.restarted")
    kept = wait_for(lambda: {record.value for record in read(rig, "hardy-1", "n")} >= set(range(500)))
    assert kept
    with rig.subscriber(device, "d/hardy-1/cmd/+") as subscriber:
        rig.transition("hardy-1", DeviceState.REVOKED)
        wait_for(lambda: subscriber.is_refused)
