"""What the doors offer over CoAP, asked through the application of the CoAP port."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from fleetward.base.coap import CoapAnswer, CoapRequest, Code
from fleetward.features.audit import store
from fleetward.features.messaging.coap import Uplink
from fleetward.programs.server.coap import CoapApp
from fleetward.programs.server.doors import DOORS
from support.clock import ManualClock
from support.hierarchy import make_csr
from support.real_apps import RealApps

PKCS10 = 286


class Port:
    """The CoAP port of a platform, and one enrolled device whose name a platform's own part bears too."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.apps = RealApps(folder, clock)
        self.published: list[tuple[str, bytes]] = []
        self.apps.add_model("camera")
        self.device = self.apps.enroll("cam-1", "camera")
        self.apps.enroll("coap", "camera")
        house = self.apps.rooms.house.furnished(Uplink(self._publish))
        self._app = CoapApp(house, [one for door in DOORS for one in door.coap])

    async def _publish(self, subject: str, payload: bytes) -> None:
        self.published.append((subject, payload))

    def ask(
        self, method: str, path: str, payload: bytes = b"", *, content_format: int | None = None
    ) -> CoapAnswer:
        der = self.device.public_bytes(Encoding.DER)
        request = CoapRequest(der, method, tuple(path.split("/")), content_format, payload)
        return asyncio.run(self._app(request))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    made = Port(tmp_path_factory.mktemp("coap"), ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC)))
    yield made
    made.apps.close()


@pytest.fixture
def port(platform: Port) -> Port:
    platform.published.clear()
    return platform


def test_a_renewal_is_audited_as_the_device_that_proved_itself(port: Port) -> None:
    csr = make_csr("cam-1").public_bytes(Encoding.DER)
    answer = port.ask("POST", ".well-known/est/sren", csr, content_format=PKCS10)
    assert answer.code is Code.CHANGED
    [renewed] = pkcs7.load_der_pkcs7_certificates(answer.payload)
    with port.apps.rooms.db.read() as tx:
        entries = [entry for entry, _ in store.read_all(tx)]
    of_the_new = [one for one in entries if f"{renewed.serial_number:x}" in str(one)]
    assert {one.actor for one in of_the_new} == {"device:cam-1"}


def test_authorities_are_for_every_proven_client(port: Port) -> None:
    answer = port.ask("GET", ".well-known/est/crts")
    found: list[x509.Certificate] = pkcs7.load_der_pkcs7_certificates(answer.payload)
    assert answer.code is Code.CONTENT
    assert port.apps.rooms.pki.root in found


@pytest.mark.parametrize(
    ("method", "path", "content_format", "code"),
    [
        ("GET", ".well-known/est/sren", None, Code.METHOD_NOT_ALLOWED),
        ("POST", ".well-known/est/crts", None, Code.METHOD_NOT_ALLOWED),
        ("POST", ".well-known/est/sren", None, Code.UNSUPPORTED_CONTENT_FORMAT),
        ("POST", ".well-known/est/sen", None, Code.UNSUPPORTED_CONTENT_FORMAT),
        ("GET", ".well-known/est/sen", None, Code.METHOD_NOT_ALLOWED),
        ("POST", ".well-known/est/sren", PKCS10, Code.BAD_REQUEST),
        ("POST", ".well-known/est/sen", PKCS10, Code.BAD_REQUEST),
        ("POST", ".well-known/est/other", PKCS10, Code.NOT_FOUND),
        ("GET", ".well-known/est", None, Code.NOT_FOUND),
        ("GET", "d/cam-1/t/temp", None, Code.METHOD_NOT_ALLOWED),
        ("POST", "d/cam-1/t", None, Code.NOT_FOUND),
        ("POST", "d/cam-1/t/temp/more", None, Code.NOT_FOUND),
        ("POST", "d/coap/t/temp", None, Code.FORBIDDEN),
    ],
)
def test_what_nobody_offers_is_refused(
    port: Port, method: str, path: str, content_format: int | None, code: Code
) -> None:
    payload = b'{"value": 21}' if path.startswith("d/") else b""
    assert port.ask(method, path, payload, content_format=content_format).code is code
    assert port.published == []


def test_a_reading_enters_under_the_devices_own_subject(port: Port) -> None:
    payload = b'{"value": 21}'
    answer = port.ask("POST", "d/cam-1/t/temp", payload)
    assert answer.code is Code.CHANGED, answer.payload
    [(subject, sent)] = port.published
    assert "cam-1" in subject.split(".")
    assert sent == payload
