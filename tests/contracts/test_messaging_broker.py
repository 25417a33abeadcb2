"""What we take for granted of nats-server, and how its child behaves when something is wrong."""

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import pytest
from nats.js.api import StreamConfig

from fleetward.base.errors import ConfigError, KeyUnavailableError, MissingProgramError, PortInUseError
from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging import service
from fleetward.features.messaging.model import AdmissionRecord
from fleetward.outside.nats.callout import CalloutResponder
from fleetward.outside.nats.config import MAX_PAYLOAD_BYTES, BrokerSettings, render_config
from fleetward.outside.nats.connection import connect
from fleetward.outside.nats.credentials import ensure_nats_keys
from fleetward.outside.nats.mirror import AdmissionMirror
from fleetward.outside.nats.server import NatsServerChild, find_program
from fleetward.outside.nats.streams import mqtt_streams
from fleetward.wire.nats_jwt import AccountSigner, AuthorizationRequest
from fleetward.wire.telemetry import MAX_READING_BYTES
from support.broker import Rig, Subscriber, wait_for

_SILENCE_S = 45.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def child_of(
    rig: Rig, *, program: str | None = None, settings: BrokerSettings | None = None
) -> NatsServerChild:
    return NatsServerChild(
        settings or rig.broker,
        rig.keys,
        on_line=lambda _line: None,
        on_restart=lambda _status: None,
        program=program,
    )


def test_the_streams_we_create_are_those_nats_server_would(rig: Rig) -> None:
    """A PUBACK promises that the message lies in one of these: our consumer must sit on the same one."""
    device = rig.enroll("first-1")
    with rig.db.read() as tx:
        record = service.admission_record(tx, "first-1")

    async def let_one_device_in() -> list[tuple[StreamConfig, StreamConfig]]:
        child = child_of(rig)
        await child.start()
        platform = await connect(rig.address, seed=rig.keys.platform, name="test")
        mirror = _OneDevice(platform, platform.client.jetstream())
        mirror.record = record
        callout = CalloutResponder(
            platform,
            mirror,
            AccountSigner(rig.keys.issuer),
            rig.clock,
            identify=lambda _certificate: "first-1",
            on_refusal=_fail,
        )
        await callout.start()
        done = await asyncio.to_thread(rig.publish, device, "d/first-1/t/x", "1")
        assert done.returncode == 0
        js = platform.client.jetstream()
        pairs = []
        for ours, _ in mqtt_streams():
            theirs = (await js.stream_info(ours.name or "")).config
            await js.delete_stream(ours.name or "")
            pairs.append((theirs, (await js.add_stream(ours)).config))
        await platform.close()
        await child.stop()
        return pairs

    for theirs, ours in rig.loop.run(let_one_device_in()):
        assert ours == theirs


def test_devices_together_hold_more_subscriptions_than_its_own_limit(rig: Rig) -> None:
    """At QoS 1 each is a consumer of one stream, where nats-server allows 1,000. One device has its bound."""
    rig.start()
    with ExitStack() as stack:
        for device, count, refused in (("many-1", 510, 0), ("many-2", 510, 0), ("greedy", 520, 8)):
            topics = [f"d/{device}/cmd/{number}" for number in range(count)]
            subscriber = stack.enter_context(rig.subscriber(rig.enroll(device), *topics))
            [codes] = wait_for(partial(subscribed_lines, subscriber))
            assert codes.count("128") == refused


def test_a_message_over_its_limit_is_acknowledged_and_told_and_one_over_the_brokers_ends_the_connection(
    rig: Rig, tmp_path: Path
) -> None:
    """No answer of a callout can bound a message (nats-server reads no limit of it): the intake does."""
    rig.start()
    device = rig.enroll("verbose-1")
    large = tmp_path / "large"
    command = rig.mosquitto("mosquitto_pub", device, "-q", "1", "-t", "d/verbose-1/t/n", "-f", str(large))
    large.write_bytes(b"x" * (MAX_READING_BYTES + 1))
    assert subprocess.run(command, check=False, timeout=30).returncode == 0
    assert str(MAX_READING_BYTES) in rig.wait_for_event("telemetry.refused", "verbose-1").message
    large.write_bytes(b"x" * (MAX_PAYLOAD_BYTES + 1))
    assert subprocess.run(command, check=False, timeout=30).returncode != 0


def subscribed_lines(subscriber: Subscriber) -> list[str]:
    return [line for line in subscriber.lines if "Subscribed" in line]


def test_a_full_stream_gives_no_acknowledgement_and_leaves_room_for_revocation(rig: Rig) -> None:
    """Ingest is away: messages pile up to the bound, then the server acknowledges no more."""
    rig.start()
    device = rig.enroll("flood-1")
    assert rig.publish(device, "d/flood-1/t/n", "1").returncode == 0
    rig.stop()  # its durable consumer stays, and nobody reads it now
    rig.start(roles=frozenset({"api", "callout"}))
    line = "x" * 60_000 + "\n"
    command = rig.mosquitto("mosquitto_pub", device, "-q", "1", "-t", "d/flood-1/t/n", "-l", "-d")
    with subprocess.Popen(
        ["stdbuf", "-oL", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        threading.Thread(target=_feed, args=(client.stdin, line * 400), daemon=True).start()
        acknowledged = 0
        # Mostly the server hangs up on the message it could not keep; it may also just stay silent.
        patience = threading.Timer(_SILENCE_S, client.kill)
        patience.start()
        for printed in client.stdout:
            acknowledged += "received PUBACK" in printed
            if "sending CONNECT" in printed and acknowledged:
                break
        patience.cancel()
        client.kill()
    assert 200 < acknowledged < 300
    rig.stop()
    rig.start()
    rig.transition("flood-1", DeviceState.REVOKED)
    assert wait_for(
        lambda: len(rig.messaging.archive.read_last("flood-1", "telemetry", "n", 1000)) >= acknowledged
    )


def _feed(pipe: IO[str], content: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.write(content)
        pipe.flush()


class _OneDevice(AdmissionMirror):
    """Knows the test's device without a bucket."""

    record: AdmissionRecord | None = None

    def find(self, device: str) -> AdmissionRecord | None:
        return self.record if self.record and self.record.device == device else None


def _fail(_request: AuthorizationRequest, refusal: object) -> None:
    raise AssertionError(refusal)


def test_a_missing_program_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgramError, match=r"nats-server.*pip install"):
        find_program()


@pytest.mark.parametrize("which", ["mqtt_port", "nats_port"])
def test_a_taken_port_is_named(rig: Rig, which: str) -> None:
    port = getattr(rig, which)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortInUseError, match=str(port)):
        rig.loop.run(child_of(rig).start())


def test_a_refused_configuration_says_what_the_server_found(rig: Rig, tmp_path: Path) -> None:
    broken = replace(rig.broker, certificate=tmp_path / "absent.pem")
    with pytest.raises(ConfigError, match=r"absent\.pem"):
        rig.loop.run(child_of(rig, settings=broken).start())


def test_a_broker_that_says_much_until_its_end_is_ended(rig: Rig, tmp_path: Path) -> None:
    """It writes to a pipe; when nobody reads that any more, neither its end nor ours comes."""
    program = tmp_path / "talker"
    program.write_text(
        "#!/bin/sh\ntrap 'yes farewell | head -c 3000000 >&2; exit 0' TERM\n"
        "echo Server is ready >&2\nwhile :; do yes news | head -c 100000 >&2; done\n"
    )
    program.chmod(0o755)

    async def live() -> int | None:
        child = child_of(rig, program=str(program))
        await child.start()
        pid = child.pid
        await child.stop()
        return pid

    pid = asyncio.run(asyncio.wait_for(live(), timeout=30))
    assert not Path(f"/proc/{pid}").exists()


def test_a_log_that_cannot_be_written_stops_no_broker(rig: Rig) -> None:
    """Nobody may leave its pipe unread: a broker that cannot say what it does stands still."""
    rig.broker.log_file.symlink_to("/dev/full")
    rig.start()
    device = rig.enroll("cam-1")
    assert rig.publish(device, "d/cam-1/t/x", "1").returncode == 0
    assert rig.publish(device, "d/other-1/t/x", "1").returncode == 0
    rig.wait_for_event("publish.refused", "cam-1")


def test_a_program_that_is_gone_for_a_while_is_started_when_it_is_back(rig: Rig, tmp_path: Path) -> None:
    program = tmp_path / "nats-server"
    program.symlink_to(find_program())
    died: list[int] = []
    child = NatsServerChild(
        rig.broker, rig.keys, on_line=lambda _line: None, on_restart=died.append, program=str(program)
    )
    rig.loop.run(child.start())
    first = child.pid
    assert first is not None
    program.unlink()
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: died)
    with pytest.raises(AssertionError):
        wait_for(lambda: child.pid != first, timeout_s=2)
    program.symlink_to(find_program())
    wait_for(lambda: child.pid != first)
    rig.loop.run(child.stop())


def test_a_broker_that_outlived_its_parent_is_ended_first(rig: Rig) -> None:
    rig.broker.folder.mkdir()
    rig.broker.config_file.write_text(render_config(rig.broker, rig.keys))
    command = [find_program(), "--config", str(rig.broker.config_file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as orphan:
        wait_for(rig.broker.pid_file.exists)
        child = child_of(rig)
        rig.loop.run(child.start())
        assert orphan.wait(10) is not None
        rig.loop.run(child.stop())


def test_another_program_under_an_old_process_id_is_left_alone(rig: Rig) -> None:
    rig.broker.folder.mkdir()
    rig.broker.pid_file.write_text(str(os.getpid()))
    child = child_of(rig)
    rig.loop.run(child.start())
    rig.loop.run(child.stop())


def test_a_killed_broker_is_started_again_and_serves(rig: Rig) -> None:
    rig.start()
    device = rig.enroll("before-1")
    child = rig.messaging.child
    assert child is not None
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: child.pid != first)
    wait_for(lambda: rig.publish(device, "d/before-1/t/x", "1").returncode == 0)
    rig.wait_for_event("broker.restarted")


def test_a_second_start_changes_nothing_that_lasts(rig: Rig) -> None:
    rig.start()
    device = rig.enroll("lasting-1")
    rig.publish(device, "d/lasting-1/t/x", "1")
    wait_for(lambda: rig.messaging.archive.read_last("lasting-1", "telemetry", "x", 10))
    before = rig.broker.config_file.read_bytes()
    rig.stop()
    rig.start()
    assert rig.broker.config_file.read_bytes() == before
    assert len(rig.messaging.archive.read_last("lasting-1", "telemetry", "x", 10)) == 1
    assert rig.publish(device, "d/lasting-1/t/x", "2").returncode == 0


def test_a_database_restored_from_a_backup_decides_again(rig: Rig) -> None:
    rig.start()
    device = rig.enroll("restored-1")
    backup = rig.folder / "backup.sqlite3"
    with (
        closing(sqlite3.connect(rig.folder / "fleetward.sqlite3")) as live,
        closing(sqlite3.connect(backup)) as copy,
    ):
        live.backup(copy)
    rig.transition("restored-1", DeviceState.QUARANTINED)
    wait_for(lambda: rig.publish(device, "d/restored-1/t/x", "1").returncode != 0)
    rig.stop()
    rig.db.close()
    for leftover in rig.folder.glob("fleetward.sqlite3*"):
        leftover.unlink()
    backup.rename(rig.folder / "fleetward.sqlite3")
    rig.start()
    assert rig.publish(device, "d/restored-1/t/x", "1").returncode == 0
    rig.transition("restored-1", DeviceState.QUARANTINED)
    wait_for(lambda: rig.publish(device, "d/restored-1/t/x", "1").returncode != 0)


def test_the_configuration_holds_no_password_and_no_plaintext_listener(rig: Rig) -> None:
    text = render_config(rig.broker, rig.keys)
    assert "password" not in text
    assert text.count("listen:") == text.count("tls {") == 2
    for secret in (rig.keys.issuer, rig.keys.platform, rig.keys.system):
        assert secret not in text
        assert secret not in repr(rig.keys)


def test_keys_are_random_kept_and_for_the_owner_alone(tmp_path: Path) -> None:
    first, again = ensure_nats_keys(tmp_path), ensure_nats_keys(tmp_path)
    assert first == again
    assert len({first.issuer, first.platform, first.system}) == 3
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_a_damaged_key_stops_the_start(tmp_path: Path) -> None:
    ensure_nats_keys(tmp_path)
    (tmp_path / "nats-issuer.seed").write_text("SAXXX")
    with pytest.raises(KeyUnavailableError, match=r"nats-issuer\.seed"):
        ensure_nats_keys(tmp_path)
