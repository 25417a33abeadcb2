"""The device's MQTT connection against real brokers: nats-server, and mosquitto for what it refuses."""

import queue
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

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
from support.agent_peers import PlainBroker
from support.broker import BrokerPlace, Issued, free_port, make_place


class Listener:
    """Collects the events of a link."""

    def __init__(self, broker: PlainBroker, issued: Issued, *, client_id: str = "cam-1") -> None:
        identity = TlsIdentity(
            client_id, lambda context: context.load_cert_chain(issued.certificate, issued.key)
        )
        self.events: queue.Queue[Event] = queue.Queue()
        self.link = MqttLink(
            ("localhost", broker.place.mqtt_port),
            client_id=client_id,
            context=client_context(broker.place.ca.root_file, identity=identity),
            tell=lambda _link, event: self.events.put(event),
        )
        self.link.start()

    def next(self) -> Event:
        return self.events.get(timeout=20)

    def until(self, kind: type[Event]) -> Event:
        while not isinstance(event := self.next(), kind):
            pass
        return event


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PlainBroker]:
    made = PlainBroker(make_place(tmp_path))
    made.start()
    yield made
    made.kill()


def test_messages_go_both_ways_and_are_acknowledged(broker: PlainBroker) -> None:
    here = Listener(broker, broker.place.ca.issue("cam-1"))
    assert here.next() == Opened()
    here.link.subscribe(("d/cam-1/cmd/+",))
    assert here.next() == Subscribed(is_granted=True)
    packet = here.link.publish("d/cam-1/t/temp", b"20.5")
    assert here.next() == Acknowledged(packet or 0)
    sent = broker.place.publish(broker.place.ca.issue("other"), "other", "d/cam-1/cmd/1", "reboot")
    assert sent.returncode == 0
    got = here.next()
    assert isinstance(got, Received)
    assert (got.topic, got.payload) == ("d/cam-1/cmd/1", b"reboot")
    here.link.acknowledge(got.packet)
    here.link.close()
    assert isinstance(here.until(Lost), Lost)


def test_what_was_not_acknowledged_comes_again_to_the_next_connection(broker: PlainBroker) -> None:
    issued = broker.place.ca.issue("cam-1")
    first = Listener(broker, issued)
    first.until(Opened)
    first.link.subscribe(("d/cam-1/cmd/+",))
    first.until(Subscribed)
    broker.place.publish(broker.place.ca.issue("other"), "other", "d/cam-1/cmd/1", "reboot")
    first.until(Received)
    first.link.close()
    first.until(Lost)
    broker.place.publish(broker.place.ca.issue("other"), "other", "d/cam-1/cmd/2", "ping")
    second = Listener(broker, issued)
    got = {second.until(Received), second.until(Received)}
    assert {one.payload for one in got if isinstance(one, Received)} == {b"reboot", b"ping"}
    second.link.close()
    second.until(Lost)


def test_a_second_connection_takes_over_and_the_first_hears_of_it(broker: PlainBroker) -> None:
    issued = broker.place.ca.issue("cam-1")
    first = Listener(broker, issued)
    first.until(Opened)
    second = Listener(broker, broker.place.ca.issue("cam-1", file="renewed"))
    second.until(Opened)
    assert isinstance(first.until(Lost), Lost)
    packet = second.link.publish("d/cam-1/t/temp", b"1")
    assert second.until(Acknowledged) == Acknowledged(packet or 0)
    assert first.link.publish("d/cam-1/t/temp", b"1") is None
    second.link.close()
    second.until(Lost)


def test_a_killed_broker_is_a_loss_and_then_a_failure(broker: PlainBroker) -> None:
    here = Listener(broker, broker.place.ca.issue("cam-1"))
    here.until(Opened)
    broker.kill()
    assert isinstance(here.until(Lost), Lost)
    again = Listener(broker, broker.place.ca.issue("cam-1"))
    refused = again.next()
    assert isinstance(refused, Refused)
    assert not refused.is_policy
    assert not refused.failure.is_certificate_refused


def test_an_expired_certificate_is_refused_by_name(broker: PlainBroker) -> None:
    expired = broker.place.ca.issue("cam-1", age=timedelta(hours=2), lifetime=timedelta(hours=-1))
    refused = Listener(broker, expired).next()
    assert isinstance(refused, Refused)
    assert refused.failure.is_certificate_refused
    assert not refused.is_policy


def test_a_broker_of_another_platform_is_not_spoken_to(broker: PlainBroker, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    elsewhere = make_place(tmp_path / "other")
    here = Listener.__new__(Listener)
    here.events = queue.Queue()
    MqttLink(
        ("localhost", broker.place.mqtt_port),
        client_id="cam-1",
        context=client_context(elsewhere.ca.root_file),
        tell=lambda _link, event: here.events.put(event),
    ).start()
    refused = here.next()
    assert isinstance(refused, Refused)
    assert "certificate" in refused.failure.reason
    assert not refused.failure.is_clock_suspect


def test_a_refusal_by_policy_is_told_from_one_by_tls(tmp_path: Path) -> None:
    if shutil.which("mosquitto") is None:
        pytest.skip("mosquitto is not installed")
    place = make_place(tmp_path)
    with_policy = _mosquitto(place)
    try:
        here = Listener(PlainBroker(place), place.ca.issue("cam-1"))
        refused = here.next()
        assert isinstance(refused, Refused)
        assert refused.is_policy
        assert not refused.failure.is_certificate_refused
    finally:
        with_policy.kill()
        with_policy.wait()


def _mosquitto(place: BrokerPlace) -> subprocess.Popen[bytes]:
    """A broker whose TLS accepts the certificate and whose policy wants a password besides."""
    conf = place.settings.folder.with_suffix(".conf")
    authorities = place.settings.folder.with_suffix(".pem")
    authorities.write_bytes(place.settings.device_ca.read_bytes() + place.ca.root_file.read_bytes())
    conf.write_text(
        f"listener {place.mqtt_port} 127.0.0.1\ncafile {authorities}\n"
        f"certfile {place.settings.certificate}\nkeyfile {place.settings.private_key}\n"
        "require_certificate true\nallow_anonymous false\nlog_dest stderr\nuser root\n"
    )
    log = place.settings.log_file.with_name("mosquitto.log")
    with log.open("wb") as out:
        process = subprocess.Popen(["mosquitto", "-c", conf], stdout=out, stderr=out)
    deadline = time.monotonic() + 20
    while b"running" not in log.read_bytes():
        if time.monotonic() > deadline or process.poll() is not None:
            pytest.fail(f"mosquitto did not start: {log.read_text()}")
        time.sleep(0.02)
    return process


def test_nobody_there_is_told_at_once(broker: PlainBroker) -> None:
    events: queue.Queue[Event] = queue.Queue()
    MqttLink(
        ("localhost", free_port()),
        client_id="cam-1",
        context=client_context(broker.place.ca.root_file),
        tell=lambda _link, event: events.put(event),
    ).start()
    assert isinstance(events.get(timeout=20), Refused)
