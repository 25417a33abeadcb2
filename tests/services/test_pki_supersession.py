"""What a renewal leaves behind: until when the old certificate is good, at every door, on both databases."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from fleetward.base.db import Database
from fleetward.base.events import list_events
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, DeviceState, KeyTier, Model
from fleetward.features.devices.peer import DevicePeer, PeerRefusedError, admit_peer, authenticate_peer
from fleetward.features.enrollment import service as enrollment
from fleetward.features.messaging import service as messaging
from fleetward.features.messaging.service.admission import MAX_SERIALS
from fleetward.features.pki import service
from fleetward.features.pki.model import (
    MAX_LIVE_CERTIFICATES,
    CertificateRefusedError,
    RevocationReason,
    surplus_of,
)
from fleetward.features.pki.service import PkiContext, revocation
from support.clock import ManualClock
from support.hierarchy import make_csr, make_pki

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def pki(tmp_path: Path, clock: ManualClock) -> PkiContext:
    return make_pki(tmp_path, clock.now())


class Fleet:
    """Devices that renew, each step a minute after the last."""

    def __init__(self, db: Database, pki: PkiContext, clock: ManualClock) -> None:
        self.db, self.pki, self.clock = db, pki, clock
        with db.write("operator:test") as tx:
            devices.add_model(tx, Model("sensor", attestation=AttestationPolicy.NONE))

    def enroll(self, device: str) -> x509.Certificate:
        self.clock.advance(timedelta(minutes=1))
        with self.db.write(f"device:{device}") as tx:
            if devices.find_device(tx, device) is None:
                devices.register(tx, device, "sensor")
            issued = service.issue_device_certificate(tx, self.pki, device, make_csr(device), DAY)
            devices.record_enrollment(tx, device, KeyTier.SOFTWARE)
        return issued.certificate

    def renew(self, current: x509.Certificate, device: str) -> x509.Certificate:
        self.clock.advance(timedelta(minutes=1))
        with self.db.write(f"device:{device}") as tx:
            peer = authenticate_peer(tx, self.pki, current.public_bytes(Encoding.DER))
            return enrollment.reenroll(tx, self.pki, peer, make_csr(device))

    def use(self, certificate: x509.Certificate) -> DevicePeer:
        return admit_peer(self.db, self.pki, certificate.public_bytes(Encoding.DER))

    def connect(self, device: str, certificate: x509.Certificate) -> None:
        change = messaging.SessionChange(
            device, is_open=True, at=self.clock.now(), address="::1", serial=f"{certificate.serial_number:x}"
        )
        with self.db.write("system:messaging") as tx:
            messaging.record_session_changes(tx, [change])

    def live(self, device: str) -> set[int]:
        with self.db.read() as tx:
            return set(service.list_live_serials(tx, device))


@pytest.fixture
def fleet(db: Database, pki: PkiContext, clock: ManualClock) -> Fleet:
    return Fleet(db, pki, clock)


def serials(*certificates: x509.Certificate) -> set[int]:
    return {one.serial_number for one in certificates}


def test_both_are_good_until_the_new_one_is_used(fleet: Fleet) -> None:
    old = fleet.enroll("cam-1")
    new = fleet.renew(old, "cam-1")
    fleet.use(old)
    fleet.connect("cam-1", old)
    assert fleet.live("cam-1") == serials(old, new)


def test_a_renewal_follows_what_it_renews_though_the_clock_was_set_back(fleet: Fleet) -> None:
    """Else the old one, used once more, would retire the new one: the device then holds none that is good."""
    old = fleet.enroll("cam-1")
    fleet.clock.advance(timedelta(minutes=-4))
    new = fleet.renew(old, "cam-1")
    fleet.use(old)
    fleet.connect("cam-1", old)
    assert fleet.live("cam-1") == serials(old, new)
    newest = fleet.renew(old, "cam-1")
    fleet.use(newest)
    assert fleet.live("cam-1") == serials(newest)


def test_a_session_on_the_new_one_retires_the_old(fleet: Fleet) -> None:
    old = fleet.enroll("cam-1")
    new = fleet.renew(old, "cam-1")
    other = fleet.enroll("cam-2")
    fleet.connect("cam-1", new)
    assert fleet.live("cam-1") == serials(new)
    assert fleet.live("cam-2") == serials(other)
    with pytest.raises(CertificateRefusedError) as caught:
        fleet.use(old)
    assert caught.value.details["reason"] == "certificate_revoked"


def test_a_request_with_the_new_one_retires_the_old(fleet: Fleet) -> None:
    old = fleet.enroll("cam-1")
    new = fleet.renew(old, "cam-1")
    fleet.use(new)
    assert fleet.live("cam-1") == serials(new)
    with pytest.raises(CertificateRefusedError):
        fleet.use(old)


def test_renewing_with_the_new_one_retires_the_old(fleet: Fleet) -> None:
    old = fleet.enroll("cam-1")
    new = fleet.renew(old, "cam-1")
    newest = fleet.renew(new, "cam-1")
    assert fleet.live("cam-1") == serials(new, newest)


def test_a_lost_answer_leaves_the_old_one_good_to_renew_with(fleet: Fleet) -> None:
    old = fleet.enroll("cam-1")
    lost = fleet.renew(old, "cam-1")
    held = fleet.renew(old, "cam-1")
    assert fleet.live("cam-1") == serials(old, lost, held)
    fleet.use(held)
    assert fleet.live("cam-1") == serials(held)


def test_one_issued_since_is_next_in_line(fleet: Fleet) -> None:
    old = fleet.enroll("cam-1")
    new = fleet.renew(old, "cam-1")
    newest = fleet.renew(old, "cam-1")
    fleet.connect("cam-1", new)
    assert fleet.live("cam-1") == serials(new, newest)


def test_a_revoked_certificate_retires_nothing(fleet: Fleet, db: Database) -> None:
    """What a thief renewed and lost again must not take the device's own with it, told late or not."""
    old = fleet.enroll("cam-1")
    stolen = fleet.renew(old, "cam-1")
    with db.write("operator:alice") as tx:
        service.revoke_certificate(tx, stolen.serial_number, "stolen", why=RevocationReason.KEY_COMPROMISE)
    fleet.connect("cam-1", stolen)
    assert fleet.live("cam-1") == serials(old)


def test_a_certificate_that_outlived_its_device_opens_no_door(fleet: Fleet, db: Database) -> None:
    """The end of a device revokes what it has; one issued in the same moment is refused all the same."""
    fleet.enroll("cam-1")
    with db.write("operator:alice") as tx:
        devices.end(tx, "cam-1", DeviceState.REVOKED, "stolen")
        late = service.issue_device_certificate(tx, fleet.pki, "cam-1", make_csr("cam-1"), DAY).certificate
    with pytest.raises(PeerRefusedError):
        fleet.use(late)


def test_a_session_without_known_certificate_retires_nothing(fleet: Fleet, db: Database) -> None:
    old = fleet.enroll("cam-1")
    new = fleet.renew(old, "cam-1")
    with db.write("system:messaging") as tx:
        change = messaging.SessionChange("cam-1", is_open=True, at=tx.now, address="::1", serial="")
        messaging.record_session_changes(tx, [change])
    assert fleet.live("cam-1") == serials(old, new)


def test_the_end_of_a_session_retires_nothing(fleet: Fleet, db: Database) -> None:
    old = fleet.enroll("cam-1")
    new = fleet.renew(old, "cam-1")
    serial = f"{new.serial_number:x}"
    with db.write("system:messaging") as tx:
        change = messaging.SessionChange("cam-1", is_open=False, at=tx.now, address="::1", serial=serial)
        messaging.record_session_changes(tx, [change])
    assert fleet.live("cam-1") == serials(old, new)


def test_what_was_superseded_is_told_once_and_stands_in_ocsp_and_in_the_next_crl(
    fleet: Fleet, db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    old = fleet.enroll("cam-1")
    new = fleet.renew(old, "cam-1")
    for _ in range(2):
        fleet.connect("cam-1", new)
        fleet.use(new)
    with db.read() as tx:
        told = [event for event in list_events(tx) if event.kind == "certificate.revoked"]
        question = ocsp.OCSPRequestBuilder().add_certificate(old, pki.device_ca.certificate, hashes.SHA256())
        answer = revocation.answer_ocsp(tx, pki, question.build().public_bytes(Encoding.DER))
    assert [event.details["serials"] for event in told] == [[f"{old.serial_number:x}"]]
    found = ocsp.load_der_ocsp_response(answer)
    assert found.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert found.revocation_reason is x509.ReasonFlags.superseded
    clock.advance(7 * HOUR)
    with db.write("system:crl") as tx:
        crl = x509.load_der_x509_crl(revocation.get_crl(tx, pki.device_ca))
    assert crl.get_revoked_certificate_by_serial_number(old.serial_number) is not None
    assert crl.get_revoked_certificate_by_serial_number(new.serial_number) is None


def test_a_device_that_renews_and_never_connects_has_few_live_certificates(
    fleet: Fleet, db: Database
) -> None:
    """Its admission record stays small too, what was revoked included; and the last one it got is good."""
    old = fleet.enroll("cam-1")
    renewed = [fleet.renew(old, "cam-1") for _ in range(40)]
    assert fleet.live("cam-1") == serials(old, *renewed[-(MAX_LIVE_CERTIFICATES - 1) :])
    with db.read() as tx:
        record = messaging.admission_record(tx, "cam-1")
    assert record is not None
    assert len(record.live_serials) == MAX_LIVE_CERTIFICATES
    assert len(record.revoked_serials) <= MAX_SERIALS
    assert fleet.use(renewed[-1]).device.id == "cam-1"
    assert fleet.live("cam-1") == serials(renewed[-1])


@pytest.mark.parametrize(
    ("live", "in_use", "surplus"),
    [
        ([], None, []),
        ([1], None, []),
        ([1, 2, 3], None, []),
        ([1, 2, 3, 4], None, []),
        ([1, 2, 3, 4, 5], None, [2]),
        ([1, 2, 3, 4, 5, 6], None, [2, 3]),
        ([1, 2, 3, 4, 5, 6], 1, [2, 3]),
        ([1, 2, 3, 4, 5, 6], 2, [3]),
        ([1, 2, 3, 4, 5, 6], 6, [2, 3]),
    ],
)
def test_the_oldest_the_newest_three_and_the_one_in_use_stay(
    live: list[int], in_use: int | None, surplus: list[int]
) -> None:
    assert surplus_of(live, in_use) == surplus


def test_what_the_broker_shows_names_certificates_of_devices_that_have_several(
    fleet: Fleet, db: Database
) -> None:
    old = fleet.enroll("cam-1")
    new = fleet.renew(old, "cam-1")
    alone = fleet.enroll("cam-2")
    shown = {
        "cam-1": new.fingerprint(hashes.SHA256()).hex(),
        "cam-2": alone.fingerprint(hashes.SHA256()).hex(),
        "cam-3": "00" * 32,
    }
    with db.write("system:messaging") as tx:
        found = messaging.list_used_of_several(tx, shown)
        assert found == {shown["cam-1"]: new.serial_number}
        messaging.retire_replaced(tx, found.values())
    assert fleet.live("cam-1") == serials(new)
    with db.read() as tx:
        assert messaging.list_used_of_several(tx, shown) == {}
