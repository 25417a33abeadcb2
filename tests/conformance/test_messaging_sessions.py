"""Who gets a session and when it ends, seen by mosquitto's clients, openssl and nats-py."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import nats
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from nats.aio.client import Client
from nats.aio.msg import Msg

from fleetward.base.errors import MissingProgramError
from fleetward.base.events import Event, Severity
from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging import service as messaging
from fleetward.features.pki import service as pki
from fleetward.features.pki.authority.ceremony import ensure_server_certificate
from fleetward.outside.keys import offload
from fleetward.outside.nats.config import MAX_PAYLOAD_BYTES
from fleetward.outside.nats.connection import connect
from support.broker import ATTESTED, Issued, Rig, wait_for
from support.hierarchy import make_pki

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("rig"))
    rig.start()
    yield rig
    rig.close()


def has_presence(rig: Rig, device: str, *, is_connected: bool) -> bool:
    found = rig.messaging.archive.find_presence(device)
    return found is not None and found.is_connected is is_connected


def tls_refusals(rig: Rig, reason: str) -> list[Event]:
    return [event for event in rig.events("tls.refused") if event.details["reason"] == reason]


def test_a_certificate_alone_lets_a_device_publish(rig: Rig) -> None:
    device = rig.enroll("plain-1")
    assert rig.publish(device, "d/plain-1/t/temp", "21.5").returncode == 0
    opened = rig.wait_for_event("session.opened", "plain-1")
    assert opened.details["serial"] == f"{device.serial:x}"
    closed = rig.wait_for_event("session.closed", "plain-1")
    assert closed.details["reason"] == "it hung up"


def test_presence_follows_the_connection(rig: Rig) -> None:
    device = rig.enroll("present-1")
    with rig.subscriber(device, "d/present-1/cmd/+"):
        wait_for(lambda: has_presence(rig, "present-1", is_connected=True))
    wait_for(lambda: has_presence(rig, "present-1", is_connected=False))


def test_publishing_on_another_devices_topic_is_dropped_and_told(rig: Rig) -> None:
    device, _ = rig.enroll("rogue-1"), rig.enroll("victim-1")
    rig.publish(device, "d/victim-1/t/temp", "666")
    told = rig.wait_for_event("publish.refused", "rogue-1")
    assert told.details["topic"] == "d/victim-1/t/temp"
    assert told.details["victim"] == "victim-1"
    assert told.severity is Severity.CRITICAL
    assert rig.messaging.archive.read_last("victim-1", "telemetry", "temp", 10) == []


def test_subscribing_to_another_devices_topic_is_refused_and_told(rig: Rig) -> None:
    device, _ = rig.enroll("rogue-2"), rig.enroll("victim-2")
    with rig.subscriber(device, "d/victim-2/cmd/+") as subscriber:
        wait_for(lambda: any("Subscribed (mid: 1): 128" in line for line in subscriber.lines))
    assert rig.wait_for_event("subscribe.refused", "rogue-2").details["victim"] == "victim-2"


def test_a_last_will_on_another_devices_topic_is_not_delivered(rig: Rig) -> None:
    device, _ = rig.enroll("rogue-4"), rig.enroll("victim-4")
    command = rig.mosquitto(
        "mosquitto_sub", device, "-t", "d/rogue-4/cmd/+", "--will-topic", "d/victim-4/t/temp",
        "--will-payload", "666", "--will-qos", "1",
    )  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        rig.wait_for_event("session.opened", "rogue-4")
        client.kill()
    rig.wait_for_event("session.closed", "rogue-4")
    assert rig.publish(device, "d/rogue-4/t/after", "1").returncode == 0
    wait_for(lambda: rig.messaging.archive.read_last("rogue-4", "telemetry", "after", 10))
    assert rig.messaging.archive.read_last("victim-4", "telemetry", "temp", 10) == []


@pytest.mark.parametrize(
    "topic",
    [
        "$SYS/REQ/USER/AUTH",
        "$JS/API/STREAM/PURGE/EVENTS",
        "$KV/admission/rogue-5",
        "fleet/session/ended/x",
        "$MQTT/msgs/d/x/t/y",
    ],
)
def test_no_topic_reaches_the_back_end(rig: Rig, topic: str) -> None:
    device = rig.enroll("rogue-5")
    rig.publish(device, topic, "{}")
    assert wait_for(lambda: rig.events("publish.refused", "rogue-5"))


def test_another_devices_client_id_is_refused_and_told(rig: Rig) -> None:
    device, _ = rig.enroll("rogue-3"), rig.enroll("victim-3")
    assert rig.publish(device, "d/rogue-3/t/x", "1", client_id="victim-3").returncode != 0
    told = rig.wait_for_event("session.refused", "rogue-3")
    assert told.details["reason"] == "client_id_mismatch"
    assert told.details["client_id"] == "victim-3"


def test_revocation_ends_the_session_and_the_device_cannot_return(rig: Rig) -> None:
    device = rig.enroll("revoked-1")
    with rig.subscriber(device, "d/revoked-1/cmd/+") as subscriber:
        rig.transition("revoked-1", DeviceState.REVOKED)
        wait_for(lambda: subscriber.is_refused)
    assert "revoked" in rig.wait_for_event("session.closed", "revoked-1").details["reason"]
    assert rig.wait_for_event("session.refused", "revoked-1").details["reason"] == "certificate_revoked"


def test_quarantine_cuts_off_and_release_lets_in_again(rig: Rig) -> None:
    device = rig.enroll("sick-1")
    with rig.subscriber(device, "d/sick-1/cmd/+") as subscriber:
        rig.transition("sick-1", DeviceState.QUARANTINED)
        wait_for(lambda: subscriber.is_refused)
    assert rig.publish(device, "d/sick-1/t/x", "1").returncode != 0
    rig.transition("sick-1", DeviceState.ACTIVE)
    assert rig.publish(device, "d/sick-1/t/x", "1").returncode == 0


def test_a_hold_cuts_off_within_a_second_and_lifting_it_lets_in_again(rig: Rig) -> None:
    device = rig.enroll("held-1")
    with rig.subscriber(device, "d/held-1/cmd/+") as subscriber:
        with rig.db.write("system:watch") as tx:
            messaging.set_hold(tx, "held-1", "watch", "odd traffic")
        wait_for(lambda: subscriber.is_refused)
    assert "held by watch" in rig.wait_for_event("session.closed", "held-1").details["reason"]
    assert rig.wait_for_event("session.refused", "held-1").details["reason"] == "held"
    with rig.db.write("system:watch") as tx:
        messaging.lift_hold(tx, "held-1", "watch")
    assert rig.publish(device, "d/held-1/t/x", "1").returncode == 0


def test_revoking_one_certificate_ends_only_sessions_on_it(rig: Rig) -> None:
    old, new = rig.enroll("renewed-1"), rig.enroll("renewed-1")
    with rig.subscriber(old, "d/renewed-1/cmd/+") as subscriber:
        with rig.db.write("operator:test") as tx:
            pki.revoke_certificate(tx, old.serial, "superseded")
        wait_for(lambda: subscriber.is_refused)
    assert rig.publish(new, "d/renewed-1/t/x", "1").returncode == 0


def test_a_model_that_demands_attestation_gets_no_session_before_it(rig: Rig) -> None:
    device = rig.enroll("camera-1", model=ATTESTED)
    assert rig.publish(device, "d/camera-1/t/x", "1").returncode != 0
    assert rig.wait_for_event("session.refused", "camera-1").details["reason"] == "device_not_active"
    rig.appraise("camera-1", lifetime=HOUR)
    assert rig.publish(device, "d/camera-1/t/x", "1").returncode == 0


def test_a_failed_appraisal_ends_the_session(rig: Rig) -> None:
    device = rig.enroll("camera-2", model=ATTESTED)
    rig.appraise("camera-2", lifetime=HOUR)
    with rig.subscriber(device, "d/camera-2/cmd/+") as subscriber:
        rig.appraise("camera-2", lifetime=HOUR, is_good=False)
        wait_for(lambda: subscriber.is_refused)
    assert rig.wait_for_event("session.refused", "camera-2").details["reason"] == "appraisal_failed"


def test_the_session_ends_in_the_second_the_appraisal_does(rig: Rig) -> None:
    device = rig.enroll("camera-3", model=ATTESTED)
    end = rig.appraise("camera-3", lifetime=timedelta(seconds=4))
    with rig.subscriber(device, "d/camera-3/cmd/+") as subscriber:
        wait_for(lambda: subscriber.is_refused)
    closed = rig.wait_for_event("session.closed", "camera-3")
    assert abs((closed.at - end).total_seconds()) < 2
    assert "expired" in closed.details["reason"]


def test_the_session_ends_in_the_second_the_certificate_does(rig: Rig) -> None:
    device = rig.enroll("brief-1", lifetime=timedelta(seconds=4))
    with rig.subscriber(device, "d/brief-1/cmd/+"):
        closed = rig.wait_for_event("session.closed", "brief-1")
        assert closed.details["reason"] == "its certificate or appraisal expired"
        refused = rig.wait_for_event("tls.refused", "brief-1")
    assert refused.details["reason"] == "certificate_expired"


def test_a_certificate_signed_behind_our_back_is_refused(rig: Rig) -> None:
    device = rig.enroll("forged-1")
    with rig.db.write("mallory") as tx:
        tx.conn.exec_driver_sql("DELETE FROM certificates WHERE device = 'forged-1'")
    rig.loop.run(rig.messaging.worker.rebuild())  # type: ignore[union-attr] # this process has the role
    assert rig.publish(device, "d/forged-1/t/x", "1").returncode != 0
    assert rig.wait_for_event("session.refused", "forged-1").details["reason"] == "certificate_unknown"


def test_a_certificate_of_an_unknown_authority_is_refused_and_told(rig: Rig, tmp_path: Path) -> None:
    rig.enroll("copied-1")
    stranger = Rig.__new__(Rig)
    stranger.folder, stranger.clock, stranger.db = tmp_path, rig.clock, rig.db
    stranger.pki = make_pki(tmp_path, rig.clock.now())
    foreign = stranger.enroll("copied-1")
    assert rig.publish(foreign, "d/copied-1/t/x", "1").returncode != 0
    told = rig.wait_for_event("tls.refused", "copied-1")
    assert told.details["reason"] == "unknown_authority"


def test_a_stolen_certificate_without_its_key_is_refused_and_told(rig: Rig) -> None:
    device, other = rig.enroll("cloned-1"), rig.enroll("thief-1")
    assert _connect_with(rig, device, other) != b" \x02\x00\x00"
    wait_for(lambda: tls_refusals(rig, "key_not_possessed"))


def _connect_with(rig: Rig, certificate: Issued, key: Issued) -> bytes:
    """Return what the broker answers to a client that signs with another key than its certificate's."""
    other = load_pem_private_key(key.key.read_bytes(), None)
    assert isinstance(other, EllipticCurvePrivateKey)
    context = ssl.create_default_context(cafile=str(rig.address.ca_file))
    try:
        offload.install(
            context, certificate.certificate, lambda digest: other.sign(digest, ECDSA(Prehashed(SHA256())))
        )
    except MissingProgramError as error:
        pytest.skip(error.message)
    try:
        with (
            socket.create_connection(("127.0.0.1", rig.mqtt_port), 10) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            return tls.recv(4)
    except OSError:
        return b""


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_legacy_tls_is_refused_and_told(rig: Rig, version: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{rig.mqtt_port}", version]
    answer = subprocess.run(
        [*command, "-cipher", "DEFAULT@SECLEVEL=0"],
        input=b"", capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert answer.returncode != 0
    wait_for(lambda: tls_refusals(rig, "legacy_tls"))


def test_plaintext_is_refused_and_told(rig: Rig) -> None:
    connect_packet = b"\x10\x10\x00\x04MQTT\x04\x02\x00<\x00\x04cam1"
    with socket.create_connection(("127.0.0.1", rig.mqtt_port), 10) as raw:
        raw.sendall(connect_packet)
        assert raw.recv(100) in (b"", b"\x15\x03\x01\x00\x02\x02F")
    wait_for(lambda: tls_refusals(rig, "plaintext"))


def test_the_back_ends_port_speaks_no_plaintext(rig: Rig) -> None:
    with socket.create_connection(("127.0.0.1", rig.nats_port), 10) as raw:
        raw.sendall(b"CONNECT {}\r\n")
        assert b"INFO" not in raw.recv(4096)


def test_a_stranger_gets_nothing_on_the_back_ends_port(rig: Rig) -> None:
    async def try_to_connect() -> None:
        context = ssl.create_default_context(cafile=str(rig.address.ca_file))
        client = Client()
        await client.connect(
            rig.address.urls[0], tls=context, tls_hostname="localhost", tls_handshake_first=True,
            allow_reconnect=False, connect_timeout=5, error_cb=_ignore,
        )  # fmt: skip

    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        rig.loop.run(try_to_connect())
    wait_for(lambda: [e for e in rig.events("session.refused") if e.details["reason"] == "not_a_device"])


async def _ignore(_error: Exception) -> None:
    return


def test_other_rooms_hear_that_a_session_ended(rig: Rig) -> None:
    heard: list[dict[str, str]] = []

    async def follow() -> None:
        back_end = await connect(rig.address, seed=rig.keys.platform, name="test")

        async def on_message(message: Msg) -> None:
            heard.append(json.loads(message.data))

        await back_end.follow("fleet.session.ended.*", on_message)

    rig.loop.run(follow())
    rig.enroll("watched-1")  # never connected by MQTT: its video ends all the same
    rig.transition("watched-1", DeviceState.QUARANTINED)
    wait_for(lambda: [one for one in heard if one["device"] == "watched-1"])
    assert heard[-1]["reason"] == "device_not_active"


def test_two_clients_fighting_over_one_identity_are_told(rig: Rig) -> None:
    device = rig.enroll("twin-1")
    with rig.subscriber(device, "d/twin-1/cmd/+"), rig.subscriber(device, "d/twin-1/cmd/+"):
        assert rig.wait_for_event("session.conflicted", "twin-1").severity is Severity.CRITICAL


def test_a_device_that_renews_often_fights_with_nobody(rig: Rig) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            device = rig.enroll("renewing-1")
            subscriber = stack.enter_context(rig.subscriber(device, "d/renewing-1/cmd/+"))
            subscriber.process.send_signal(signal.SIGSTOP)  # it does not come back once it is replaced
            time.sleep(1.5)  # nats-server holds a client id back that returns within a second
        wait_for(lambda: len(rig.events("session.closed", "renewing-1")) == 4)
        assert rig.events("session.conflicted", "renewing-1") == []


def test_the_broker_survives_bad_requests_to_its_callout(rig: Rig) -> None:
    async def send_junk() -> None:
        for junk in (b"", b"a.b.c", b"\xff" * 100, b"x" * MAX_PAYLOAD_BYTES):
            await rig.messaging.shared.platform.client.publish("$SYS.REQ.USER.AUTH", junk)

    rig.loop.run(send_junk())
    device = rig.enroll("after-junk-1")
    assert rig.publish(device, "d/after-junk-1/t/x", "1").returncode == 0


def test_a_renewed_server_certificate_is_served_without_dropping_anyone(rig: Rig) -> None:
    def served() -> bytes:
        context = ssl.create_default_context(cafile=str(rig.address.ca_file))
        with (
            socket.create_connection(("127.0.0.1", rig.nats_port), 10) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            return tls.getpeercert(binary_form=True) or b""

    device = rig.enroll("steady-1")
    before = served()
    with rig.subscriber(device, "d/steady-1/cmd/+") as subscriber:
        (rig.folder / "tls" / "server.pem").unlink()
        names = ["localhost", "127.0.0.1"]
        ensure_server_certificate(rig.folder, rig.pki.server_ca, names, rig.clock.now())
        rig.loop.loop.call_soon_threadsafe(rig.messaging.reload_certificates)
        wait_for(lambda: served() != before)
        rig.command("steady-1", "ping")
        wait_for(lambda: subscriber.messages)
        assert subscriber.connections == 1
