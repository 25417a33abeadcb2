from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.db import Database
from fleetward.base.errors import NotFoundError
from fleetward.base.events import list_events
from fleetward.features.audit import service as audit
from fleetward.features.pki import revocation, service
from fleetward.features.pki.ceremony import (
    WrongPassphraseError,
    create_hierarchy,
    ensure_server_certificate,
    load_ca,
)
from fleetward.features.pki.model import (
    CertificateRefusedError,
    CsrRefusedError,
    RevocationReason,
    check_csr,
    identify_device,
)
from fleetward.features.pki.service import PkiContext
from support.clock import ManualClock
from support.hierarchy import PASSPHRASE, TRUST_DOMAIN, make_csr, make_pki

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
        assert service.retire_superseded(tx, "cam-1", second.serial) == [first.serial]
        assert service.list_revoked_serials(tx, "cam-1") == [first.serial]
        assert not service.is_revoked(tx, third.serial)


def test_the_crl_is_signed_again_only_when_it_must_be(
    db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    with db.write("system") as tx:
        first = revocation.get_crl(tx, pki.device_ca)
        assert revocation.find_current_crl(tx, pki.device_ca) == first
    issued = issue(db, pki)
    clock.advance(timedelta(seconds=1))
    with db.write("operator:a") as tx:
        service.revoke_device(tx, "cam-1", "stolen", why=RevocationReason.KEY_COMPROMISE)
    with db.write("system") as tx:
        assert revocation.find_current_crl(tx, pki.device_ca) is None
        crl = x509.load_der_x509_crl(revocation.get_crl(tx, pki.device_ca))
    assert crl.is_signature_valid(pki.device_ca.certificate.public_key())  # type: ignore[arg-type]
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 2
    entry = crl.get_revoked_certificate_by_serial_number(issued.serial)
    assert entry is not None
    assert (
        entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        is x509.ReasonFlags.key_compromise
    )
    clock.advance(timedelta(hours=8))
    with db.read() as tx:
        assert revocation.find_current_crl(tx, pki.device_ca) is None


@pytest.mark.usefixtures("pki")
def test_the_ceremony_again_changes_no_file(tmp_path: Path, clock: ManualClock) -> None:
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    create_hierarchy(tmp_path, TRUST_DOMAIN, PASSPHRASE, clock.now() + DAY)
    assert {path: path.read_bytes() for path in files} == files
    with pytest.raises(WrongPassphraseError):
        create_hierarchy(tmp_path, TRUST_DOMAIN, b"another passphrase", clock.now())


@pytest.mark.parametrize("lost", ["ca/device-ca.crt", "keys/server-ca.pem", "ca/root.crt", "tls/time.crt"])
def test_an_interrupted_ceremony_is_finished(tmp_path: Path, clock: ManualClock, lost: str) -> None:
    make_pki(tmp_path, clock.now())
    (tmp_path / lost).unlink()
    if lost.startswith("keys"):
        (tmp_path / "ca/server-ca.crt").unlink()
    create_hierarchy(tmp_path, TRUST_DOMAIN, PASSPHRASE, clock.now())
    assert (tmp_path / lost).exists()
    load_ca(tmp_path, "device-ca")
    load_ca(tmp_path, "server-ca")


@pytest.mark.usefixtures("pki")
def test_private_keys_are_owner_only_and_the_root_is_encrypted(tmp_path: Path) -> None:
    assert b"ENCRYPTED" in (tmp_path / "offline/root.key.pem").read_bytes()
    for path in [*(tmp_path / "keys").iterdir(), *(tmp_path / "offline").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0


def test_server_certificates_renew_at_half_their_life_and_when_names_change(
    pki: PkiContext, tmp_path: Path, clock: ManualClock
) -> None:
    names = ["localhost", "127.0.0.1", "::1"]
    assert ensure_server_certificate(tmp_path, pki.server_ca, names, clock.now())
    assert not ensure_server_certificate(tmp_path, pki.server_ca, names, clock.now() + 14 * DAY)
    assert ensure_server_certificate(tmp_path, pki.server_ca, names, clock.now() + 16 * DAY)
    assert ensure_server_certificate(tmp_path, pki.server_ca, ["fleet.example"], clock.now() + 16 * DAY)


def test_only_p256_requests_that_prove_possession_are_signed() -> None:
    name = x509.Name([])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    with pytest.raises(CsrRefusedError, match="P-256"):
        check_csr(builder.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()))
    der = bytearray(make_csr().public_bytes(Encoding.DER))
    der[-1] ^= 1
    with pytest.raises(CsrRefusedError):
        check_csr(x509.load_der_x509_csr(bytes(der)))
