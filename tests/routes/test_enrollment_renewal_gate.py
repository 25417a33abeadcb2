"""Who may renew by their current certificate: each gate, at both doors (EST over TLS, and over CoAP)."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from fleetward.base.coap import CoapRequest, Code
from fleetward.base.db import Tx
from fleetward.features.attestation import store as appraisals
from fleetward.features.attestation.model import Appraisal
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, DeviceState, KeyTier
from fleetward.features.messaging.coap import Uplink
from fleetward.features.pki import service as pki
from fleetward.programs.server.coap import CoapApp
from fleetward.programs.server.doors import DOORS
from fleetward.wire import est
from support.clock import ManualClock
from support.hierarchy import make_csr
from support.real_apps import RealApps

HOUR = timedelta(hours=1)


@dataclass
class Doors:
    """Both doors of one platform; each way to renew returns the new certificate, None when it is refused."""

    apps: RealApps
    clock: ManualClock

    def by_est(
        self, current: x509.Certificate, csr: x509.CertificateSigningRequest
    ) -> x509.Certificate | None:
        body = est.render_csr(csr.public_bytes(Encoding.DER))
        answer = self.apps.device(current, "POST", f"{est.PATH}/simplereenroll", content=body)
        assert answer.status_code in {200, 400, 401, 403, 409}, answer.text
        return est.parse_certificates(answer.content)[0] if answer.status_code == 200 else None

    def by_coap(
        self, current: x509.Certificate, csr: x509.CertificateSigningRequest
    ) -> x509.Certificate | None:
        async def publish(_subject: str, _payload: bytes) -> None:
            raise AssertionError("a renewal publishes nothing")

        house = self.apps.rooms.house.furnished(Uplink(publish))
        app = CoapApp(house, [one for door in DOORS for one in door.coap])
        request = CoapRequest(
            current.public_bytes(Encoding.DER), "POST", (".well-known", "est", "sren"), 286,
            csr.public_bytes(Encoding.DER),
        )  # fmt: skip
        answer = asyncio.run(app(request))
        refusals = {Code.BAD_REQUEST, Code.UNAUTHORIZED, Code.FORBIDDEN}
        assert answer.code in {Code.CHANGED, *refusals}, answer
        return pkcs7.load_der_pkcs7_certificates(answer.payload)[0] if answer.code is Code.CHANGED else None


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    clock = ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))
    apps = RealApps(tmp_path_factory.mktemp("renewal"), clock)
    apps.add_model("plain")
    apps.add_model("attested", attestation=AttestationPolicy.REQUIRED)
    yield Doors(apps, clock)
    apps.close()


@pytest.fixture(params=["est", "coap"])
def renew(
    request: pytest.FixtureRequest, doors: Doors
) -> Callable[[x509.Certificate, x509.CertificateSigningRequest], x509.Certificate | None]:
    return doors.by_est if request.param == "est" else doors.by_coap


Renew = Callable[[x509.Certificate, x509.CertificateSigningRequest], x509.Certificate | None]
Change = Callable[[Tx, str], object]


def appraised(tx: Tx, device: str, *, good: bool) -> None:
    appraisals.insert_appraisal(tx, Appraisal(device, tx.now, good, tx.now + HOUR), keep=10)


def nothing(_tx: Tx, _device: str) -> None:
    return


ALLOWED: dict[str, tuple[str, Change]] = {
    "software key": ("plain", nothing),
    "key in a secure element": ("plain", lambda tx, d: devices.record_enrollment(tx, d, KeyTier.PKCS11)),
    "quarantined": ("plain", lambda tx, d: devices.transition(tx, d, DeviceState.QUARANTINED, "odd")),
    "not attested yet": ("attested", nothing),
    "attested well": ("attested", lambda tx, d: appraised(tx, d, good=True)),
    "failed, where nobody asks": ("plain", lambda tx, d: appraised(tx, d, good=False)),
}
REFUSED: dict[str, tuple[str, Change]] = {
    "key in a TPM": ("plain", lambda tx, d: devices.record_enrollment(tx, d, KeyTier.TPM)),
    "last attestation failed": ("attested", lambda tx, d: appraised(tx, d, good=False)),
    "revoked": ("plain", lambda tx, d: devices.end(tx, d, DeviceState.REVOKED, "stolen")),
    "retired": ("plain", lambda tx, d: devices.end(tx, d, DeviceState.RETIRED, "old")),
    "certificate revoked": ("plain", lambda tx, d: pki.revoke_device(tx, d, "lost")),
}


def prepare(doors: Doors, name: str, case: tuple[str, Change]) -> tuple[str, x509.Certificate]:
    model, change = case
    device = f"dev-{name.replace(' ', '-').replace(',', '')}"
    certificate = doors.apps.enroll(device, model)
    with doors.apps.rooms.db.write("operator:test") as tx:
        change(tx, device)
    return device, certificate


@pytest.mark.parametrize("name", ALLOWED)
def test_who_passes_every_gate_renews(
    doors: Doors, renew: Renew, request: pytest.FixtureRequest, name: str
) -> None:
    way = request.node.callspec.params["renew"]
    device, current = prepare(doors, f"{way} {name}", ALLOWED[name])
    csr = make_csr(device)
    renewed = renew(current, csr)
    assert renewed is not None
    assert renewed.public_key() == csr.public_key()
    with doors.apps.rooms.db.read() as tx:
        assert not pki.is_revoked(tx, current.serial_number)


@pytest.mark.parametrize("name", REFUSED)
def test_who_fails_one_gate_does_not(
    doors: Doors, renew: Renew, request: pytest.FixtureRequest, name: str
) -> None:
    way = request.node.callspec.params["renew"]
    device, current = prepare(doors, f"{way} {name}", REFUSED[name])
    with doors.apps.rooms.db.read() as tx:
        before = pki.list_certificates(tx, device)
    assert renew(current, make_csr(device)) is None
    with doors.apps.rooms.db.read() as tx:
        assert pki.list_certificates(tx, device) == before


def test_anothers_name_and_an_expired_certificate_renew_nothing(doors: Doors, renew: Renew) -> None:
    current = doors.apps.enroll(f"dev-{renew.__name__}", "plain")
    assert renew(current, make_csr("somebody-else")) is None
    doors.clock.advance(25 * HOUR)
    assert renew(current, make_csr(f"dev-{renew.__name__}")) is None


def test_a_certificate_that_outlived_its_device_renews_nothing(doors: Doors, renew: Renew) -> None:
    """The end of a device revokes what it has; one issued in the same moment is refused all the same."""
    device = f"dev-ended-{renew.__name__}"
    doors.apps.enroll(device, "plain")
    with doors.apps.rooms.db.write("operator:test") as tx:
        devices.end(tx, device, DeviceState.REVOKED, "stolen")
        late = pki.issue_device_certificate(tx, doors.apps.rooms.pki, device, make_csr(device), 24 * HOUR)
    assert renew(late.certificate, make_csr(device)) is None
