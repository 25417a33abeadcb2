from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.db import Database
from fleetward.base.errors import NotFoundError
from fleetward.base.events import Severity, list_events
from fleetward.features.audit import service as audit
from fleetward.features.pki import service
from fleetward.features.pki.authority.ceremony import ensure_server_certificate
from fleetward.features.pki.model import (
    CertificateRefusedError,
    RevocationReason,
    identify_device,
)
from fleetward.features.pki.service import PkiContext
from support.clock import ManualClock
from support.hierarchy import TRUST_DOMAIN, make_csr, make_pki

DAY = timedelta(days=1)


@pytest.fixture
def pki(tmp_path: Path, clock: ManualClock) -> PkiContext:
    return make_pki(tmp_path, clock.now())


def issue(
    db: Database, pki: PkiContext, device: str = "cam-1", lifetime: timedelta = DAY
) -> service.IssuedCertificate:
    with db.write("device:cam-1") as tx:
        return service.issue_device_certificate(tx, pki, device, make_csr(device), lifetime)


def verify(db: Database, pki: PkiContext, der: bytes) -> str:
    with db.read() as tx:
        return service.verify_device_certificate(tx, pki, der, tx.now).device_id


def test_an_issued_certificate_is_what_the_profile_says(
    db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    certificate = issue(db, pki).certificate
    extensions = certificate.extensions
    assert identify_device(TRUST_DOMAIN, certificate) == "cam-1"
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.serial_number.bit_length() > 64
    assert certificate.not_valid_after_utc == clock.now() + DAY


def test_issue_is_recorded_audited_and_told(db: Database, pki: PkiContext) -> None:
    issued = issue(db, pki)
    with db.read() as tx:
        assert [record.serial for record in service.list_certificates(tx, "cam-1")] == [issued.serial]
        assert [event.kind for event in list_events(tx, device="cam-1")] == ["certificate.issued"]
        assert [entry.action for entry, _ in audit.search(tx)] == ["certificate.issued"]


def test_a_certificate_never_outlives_its_issuer(db: Database, pki: PkiContext, clock: ManualClock) -> None:
    clock.set(pki.device_ca.certificate.not_valid_after_utc - timedelta(hours=1))
    assert issue(db, pki).certificate.not_valid_after_utc == pki.device_ca.certificate.not_valid_after_utc


def test_a_live_certificate_proves_its_device_and_a_revoked_one_nothing(
    db: Database, pki: PkiContext
) -> None:
    issued = issue(db, pki)
    assert verify(db, pki, issued.der) == "cam-1"
    with db.write("operator:a") as tx:
        assert service.revoke_device(tx, "cam-1", "stolen") == [issued.serial]
    with pytest.raises(CertificateRefusedError) as caught:
        verify(db, pki, issued.der)
    assert caught.value.details["reason"] == "certificate_revoked"


def test_an_expired_or_too_early_certificate_proves_nothing(
    db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    issued = issue(db, pki)
    clock.advance(DAY + timedelta(seconds=1))
    with pytest.raises(CertificateRefusedError, match="expired"):
        verify(db, pki, issued.der)
    clock.advance(-2 * DAY)
    with pytest.raises(CertificateRefusedError, match="not yet"):
        verify(db, pki, issued.der)


def test_a_certificate_of_another_hierarchy_proves_nothing(
    db: Database, pki: PkiContext, tmp_path: Path, clock: ManualClock
) -> None:
    foreign = make_pki(tmp_path / "other", clock.now())
    with pytest.raises(CertificateRefusedError) as caught:
        verify(db, pki, issue(db, foreign).der)
    assert caught.value.details["reason"] == "certificate_unknown_ca"


def test_a_server_certificate_is_no_device(
    db: Database, pki: PkiContext, tmp_path: Path, clock: ManualClock
) -> None:
    ensure_server_certificate(tmp_path, pki.device_ca, ["localhost"], clock.now())
    leaf = x509.load_pem_x509_certificates((tmp_path / "tls/server.pem").read_bytes())[0]
    with pytest.raises(CertificateRefusedError) as caught:
        verify(db, pki, leaf.public_bytes(Encoding.DER))
    assert caught.value.details["reason"] == "certificate_wrong_purpose"


def test_revoking_again_changes_nothing(db: Database, pki: PkiContext) -> None:
    issued = issue(db, pki)
    for _ in range(2):
        with db.write("operator:a") as tx:
            service.revoke_certificate(tx, issued.serial, "lost", why=RevocationReason.KEY_COMPROMISE)
    with db.read() as tx:
        assert [event.kind for event in list_events(tx)].count("certificate.revoked") == 1


def test_a_certificate_we_never_issued_cannot_be_revoked_and_counts_as_revoked(db: Database) -> None:
    with db.write("operator:a") as tx:
        assert service.is_revoked(tx, 12345)
        with pytest.raises(NotFoundError):
            service.revoke_certificate(tx, 12345, "lost")


def test_the_certificates_before_the_connected_one_are_retired(
    db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    first = issue(db, pki)
    clock.advance(timedelta(hours=12))
    second = issue(db, pki)
    clock.advance(timedelta(minutes=1))
    third = issue(db, pki)
    with db.write("device:cam-1") as tx:
        assert service.retire_superseded(tx, [second.serial]) == [first.serial]
        assert service.list_revoked_serials(tx, "cam-1") == [first.serial]
        assert not service.is_revoked(tx, third.serial)


def test_what_was_superseded_says_so_in_audit_and_events(
    db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    first = issue(db, pki)
    clock.advance(timedelta(hours=12))
    second = issue(db, pki)
    with db.write("device:cam-1") as tx:
        service.retire_superseded(tx, [second.serial])
        assert service.retire_superseded(tx, [second.serial]) == []
        record = service.get_certificate(tx, first.serial)
        told = [event for event in list_events(tx) if event.kind == "certificate.revoked"]
        audited = [entry for entry, _ in audit.search(tx, action="certificate.revoked")]
    assert record.revocation_reason is RevocationReason.SUPERSEDED
    assert [(event.severity, event.details["why"]) for event in told] == [(Severity.INFO, "superseded")]
    assert [entry.details["serials"] for entry in audited] == [[f"{first.serial:x}"]]


def test_the_denylist_holds_what_is_revoked_and_not_expired(
    db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    brief = issue(db, pki, "cam-1", timedelta(minutes=5))
    other = issue(db, pki, "cam-2")
    issue(db, pki, "cam-3")
    with db.write("operator:a") as tx:
        service.revoke_device(tx, "cam-1", "stolen")
        service.revoke_device(tx, "cam-2", "stolen")
    with db.read() as tx:
        assert set(service.list_revoked_serials(tx)) == {brief.serial, other.serial}
        assert service.list_revoked_serials(tx, "cam-2") == [other.serial]
    clock.advance(timedelta(minutes=6))
    with db.read() as tx:
        assert service.list_revoked_serials(tx) == [other.serial]


def test_an_issue_that_does_not_commit_leaves_no_trace(db: Database, pki: PkiContext) -> None:
    def issue_and_fail() -> None:
        with db.write("device:cam-1") as tx:
            service.issue_device_certificate(tx, pki, "cam-1", make_csr("cam-1"), DAY)
            service.revoke_certificate(tx, 12345, "never issued")

    with pytest.raises(NotFoundError):
        issue_and_fail()
    with db.read() as tx:
        assert service.list_certificates(tx, "cam-1") == []
        assert list_events(tx) == []


def test_long_expired_certificates_are_forgotten_and_prove_nothing(
    db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    issued = issue(db, pki)
    with db.write("system") as tx:
        assert service.forget_expired(tx) == 0
    clock.advance(92 * DAY)
    with db.write("system") as tx:
        assert service.forget_expired(tx) == 1
        assert service.find_certificate(tx, issued.serial) is None
        assert service.is_revoked(tx, issued.serial)


def test_a_predecessor_of_our_authority_is_trusted_until_it_is_dropped(
    db: Database, pki: PkiContext, tmp_path: Path, clock: ManualClock
) -> None:
    issued = issue(db, pki)
    successor = make_pki(tmp_path / "next", clock.now())
    both = PkiContext(
        TRUST_DOMAIN, successor.root, successor.device_ca, successor.server_ca, successor.urls,
        earlier_device_cas=(pki.device_ca,),
    )  # fmt: skip
    assert verify(db, both, issued.der) == "cam-1"
    with pytest.raises(CertificateRefusedError):
        verify(db, successor, issued.der)
