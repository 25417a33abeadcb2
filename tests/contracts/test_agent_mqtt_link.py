"""The device's MQTT connection against real brokers: nats-server, and mosquitto for what it refuses."""

import queue
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.base.clock import SystemClock
from fleetward.outside.mqtt.link import (
    Acknowledged,
    Event,
    Lost,
    MqttLink,
    Opened,
    Received,
    Refused,
    Subscribed,
)
from fleetward.outside.tls.client import TlsIdentity, client_context
from support.agent_peers import Pki, PlainBroker, broker_settings
from support.ports import free_ports

NOW = SystemClock().now()


class Listener:
    """Collects the events of a link."""

    def __init__(
        self, port: int, root: Path, identity: TlsIdentity | None, *, client_id: str = "cam-1"
    ) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.link = MqttLink(
            ("localhost", port),
            client_id=client_id,
            context=client_context(root, identity=identity),
            tell=lambda _link, event: self.events.put(event),
        )
        self.link.start()

    def next(self) -> Event:
        return self.events.get(timeout=20)

    def until(self, kind: type[Event]) -> Event:
        while not isinstance(event := self.next(), kind):
            pass
        return event

    def close(self) -> None:
        self.link.close()
        self.until(Lost)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path, at=NOW)


@pytest.fixture
def broker(pki: Pki) -> Iterator[PlainBroker]:
    made = PlainBroker(broker_settings(pki.folder, *pki.server, pki.root_file))
    made.start()
    yield made
    made.kill()


def connect(broker: PlainBroker, pki: Pki, *, client_id: str = "cam-1") -> Listener:
    here = Listener(broker.mqtt_port, pki.root_file, pki.identity(client_id), client_id=client_id)
    assert here.next() == Opened()
    return here


def send(broker: PlainBroker, pki: Pki, topic: str, payload: bytes) -> None:
    operator = connect(broker, pki, client_id="operator")
    operator.link.publish(topic, payload)
    operator.until(Acknowledged)
    operator.close()


def test_messages_go_both_ways_and_are_acknowledged(broker: PlainBroker, pki: Pki) -> None:
    here = connect(broker, pki)
    here.link.subscribe(("d/cam-1/cmd/+",))
    assert here.next() == Subscribed(is_granted=True)
    packet = here.link.publish("d/cam-1/t/temp", b"20.5")
    assert here.next() == Acknowledged(packet or 0)
    send(broker, pki, "d/cam-1/cmd/1", b"reboot")
    got = here.next()
    assert isinstance(got, Received)
    assert (got.topic, got.payload) == ("d/cam-1/cmd/1", b"reboot")
    here.link.acknowledge(got.packet)
    here.close()


def test_what_was_not_acknowledged_comes_again_to_the_next_connection(broker: PlainBroker, pki: Pki) -> None:
    first = connect(broker, pki)
    first.link.subscribe(("d/cam-1/cmd/+",))
    first.until(Subscribed)
    send(broker, pki, "d/cam-1/cmd/1", b"reboot")
    first.until(Received)
    first.close()
    send(broker, pki, "d/cam-1/cmd/2", b"ping")
    second = connect(broker, pki)
    got = {second.until(Received), second.until(Received)}
    assert {one.payload for one in got if isinstance(one, Received)} == {b"reboot", b"ping"}
    second.close()


def test_a_second_connection_takes_over_and_the_first_hears_of_it(broker: PlainBroker, pki: Pki) -> None:
    first = connect(broker, pki)
    second = connect(broker, pki)
    assert isinstance(first.until(Lost), Lost)
    packet = second.link.publish("d/cam-1/t/temp", b"1")
    assert second.until(Acknowledged) == Acknowledged(packet or 0)
    assert first.link.publish("d/cam-1/t/temp", b"1") is None
    second.close()


def test_a_killed_broker_is_a_loss_and_then_a_failure(broker: PlainBroker, pki: Pki) -> None:
    here = connect(broker, pki)
    broker.kill()
    assert isinstance(here.until(Lost), Lost)
    refused = Listener(broker.mqtt_port, pki.root_file, pki.identity()).next()
    assert isinstance(refused, Refused)
    assert not refused.is_policy
    assert not refused.failure.is_certificate_refused


def test_an_expired_certificate_is_refused_by_name(broker: PlainBroker, pki: Pki) -> None:
    expired = pki.identity(age=timedelta(days=3))
    refused = Listener(broker.mqtt_port, pki.root_file, expired).next()
    assert isinstance(refused, Refused)
    assert refused.failure.is_certificate_refused
    assert not refused.is_policy


def test_a_broker_of_another_platform_is_not_spoken_to(broker: PlainBroker, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    elsewhere = Pki(tmp_path / "other", at=NOW)
    refused = Listener(broker.mqtt_port, elsewhere.root_file, None).next()
    assert isinstance(refused, Refused)
    assert "certificate" in refused.failure.reason
    assert not refused.failure.is_clock_suspect


def test_a_refusal_by_policy_is_told_from_one_by_tls(pki: Pki) -> None:
    if shutil.which("mosquitto") is None:
        pytest.skip("mosquitto is not installed")
    port = free_ports()
    with_policy = _mosquitto(pki, port)
    try:
        refused = Listener(port, pki.root_file, pki.identity()).next()
        assert isinstance(refused, Refused)
        assert refused.is_policy
        assert not refused.failure.is_certificate_refused
    finally:
        with_policy.kill()
        with_policy.wait()


def test_nobody_there_is_told_at_once(pki: Pki) -> None:
    assert isinstance(Listener(free_ports(), pki.root_file, None).next(), Refused)


def _mosquitto(pki: Pki, port: int) -> subprocess.Popen[bytes]:
    """A broker whose TLS accepts the certificate and whose policy wants a password besides."""
    certificate, key = pki.server
    conf, log = pki.folder / "mosquitto.conf", pki.folder / "mosquitto.log"
    conf.write_text(
        f"listener {port} 127.0.0.1\ncafile {pki.root_file}\ncertfile {certificate}\nkeyfile {key}\n"
        "require_certificate true\nallow_anonymous false\nlog_dest stderr\nuser root\n"
    )
    with log.open("wb") as out:
        process = subprocess.Popen(["mosquitto", "-c", conf], stdout=out, stderr=out)
    deadline = time.monotonic() + 20
    while b"running" not in log.read_bytes():
        if time.monotonic() > deadline or process.poll() is not None:
            pytest.fail(f"mosquitto did not start: {log.read_text()}")
        time.sleep(0.02)
    return process
