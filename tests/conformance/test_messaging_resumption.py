"""A device that resumes a TLS session on the MQTT port: what it was admitted on then is asked again now."""

import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta

import pytest

from fleetward.base.tls_policy import OPENSSL_CIPHERS
from fleetward.features.devices.model import DeviceState
from fleetward.features.pki import service as pki
from support.broker import Issued, Rig, wait_for
from support.raw_mqtt import connect_packet

ACCEPTED = b" \x02\x00\x00"
BRIEF = timedelta(seconds=6)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("rig"))
    rig.start()
    yield rig
    rig.close()


class Resuming:
    """An MQTT client that keeps its TLS session from one connection to the next."""

    def __init__(self, rig: Rig, issued: Issued, version: ssl.TLSVersion) -> None:
        self._rig, self._issued = rig, issued
        self._context = ssl.create_default_context(cafile=rig.folder / "ca" / "ca-bundle.pem")
        self._context.minimum_version = self._context.maximum_version = version
        self._context.load_cert_chain(issued.certificate, issued.key)
        self._session: ssl.SSLSession | None = None
        self.was_resumed: bool | None = None

    def connect(self) -> bytes:
        """Return what the broker answers to a CONNECT, b"" where it hangs up."""
        self.was_resumed = None
        try:
            with (
                socket.create_connection(("127.0.0.1", self._rig.mqtt_port), timeout=20) as plain,
                self._context.wrap_socket(
                    plain, server_hostname="localhost", session=self._session
                ) as secured,
            ):
                self.was_resumed = secured.session_reused
                secured.sendall(connect_packet(self._issued.device))
                answer = secured.recv(4)
                self._session = secured.session or self._session
        except TimeoutError:
            raise
        except OSError:
            return b""
        return answer


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return ssl.TLSVersion(request.param)


def name_of(what: str, version: ssl.TLSVersion) -> str:
    return f"{what}-{version.name[-1]}"


def connected(rig: Rig, issued: Issued, version: ssl.TLSVersion) -> Resuming:
    """Return a client that connected, came back on its TLS session, and was let in both times."""
    client = Resuming(rig, issued, version)
    assert client.connect() == ACCEPTED
    assert client.connect() == ACCEPTED
    assert client.was_resumed
    return client


def test_a_revoked_certificate_gets_no_session_by_resuming(rig: Rig, version: ssl.TLSVersion) -> None:
    device = rig.enroll(name_of("revoked", version))
    client = connected(rig, device, version)
    with rig.db.write("operator:test") as tx:
        pki.revoke_certificate(tx, device.serial, "lost")
    wait_for(lambda: client.connect() != ACCEPTED)
    assert client.was_resumed
    refused = rig.wait_for_event("session.refused", device.device)
    assert refused.details["reason"] == "certificate_revoked"
    assert client.connect() != ACCEPTED


def test_a_quarantined_device_gets_no_session_by_resuming(rig: Rig, version: ssl.TLSVersion) -> None:
    device = rig.enroll(name_of("odd", version))
    client = connected(rig, device, version)
    rig.transition(device.device, DeviceState.QUARANTINED)
    wait_for(lambda: client.connect() != ACCEPTED)
    assert client.was_resumed
    assert rig.wait_for_event("session.refused", device.device).details["reason"] == "device_not_active"


def test_an_expired_certificate_gets_no_session_by_resuming(rig: Rig, version: ssl.TLSVersion) -> None:
    device = rig.enroll(name_of("brief", version), lifetime=BRIEF)
    ends_at = rig.clock.now() + BRIEF
    client = connected(rig, device, version)
    wait_for(lambda: rig.clock.now() > ends_at)
    assert client.connect() != ACCEPTED
    assert client.connect() != ACCEPTED


def test_the_broker_takes_the_ciphers_of_our_policy_and_no_others(rig: Rig) -> None:
    """Each cipher by certificate that OpenSSL has for TLS 1.2 is offered alone, as a scanner does."""
    everything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    everything.set_ciphers("ALL:!PSK:!SRP:!TLSv1.3:@SECLEVEL=0")
    offered = {one["name"] for one in everything.get_ciphers() if one["protocol"] != "TLSv1.3"}
    assert {"ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "AES128-SHA"} <= offered
    device = rig.enroll("scanner")
    taken = {name for name in offered if is_taken(rig, device, name)}
    assert taken == {name for name in OPENSSL_CIPHERS.split(":") if "ECDSA" in name}


def is_taken(rig: Rig, device: Issued, cipher: str) -> bool:
    context = ssl.create_default_context(cafile=rig.folder / "ca" / "ca-bundle.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(device.certificate, device.key)
    context.set_ciphers(f"{cipher}:@SECLEVEL=0")
    try:
        with (
            socket.create_connection(("127.0.0.1", rig.mqtt_port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="localhost"),
        ):
            return True
    except ssl.SSLError as error:
        if "HANDSHAKE_FAILURE" not in str(error.reason):
            raise
        return False
