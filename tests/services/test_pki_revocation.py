"""CRLs: numbered, kept until something changes, complete."""

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fleetward.base.db import Database
from fleetward.features.pki import service
from fleetward.features.pki.model import RevocationReason
from fleetward.features.pki.service import PkiContext, revocation
from support.clock import ManualClock
from support.hierarchy import make_csr, make_pki

DAY = timedelta(days=1)


@pytest.fixture
def pki(tmp_path: Path, clock: ManualClock) -> PkiContext:
    return make_pki(tmp_path, clock.now())


def issue(db: Database, pki: PkiContext, device: str = "cam-1", lifetime: timedelta = DAY) -> int:
    with db.write(f"device:{device}") as tx:
        return service.issue_device_certificate(tx, pki, device, make_csr(device), lifetime).serial


def revoke(db: Database, device: str, why: RevocationReason = RevocationReason.KEY_COMPROMISE) -> None:
    with db.write("operator:a") as tx:
        service.revoke_device(tx, device, "stolen", why=why)


def get(db: Database, pki: PkiContext) -> x509.CertificateRevocationList:
    with db.write("system") as tx:
        crl = x509.load_der_x509_crl(revocation.get_crl(tx, pki.device_ca))
    key = pki.device_ca.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(key)
    return crl


def number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def serials(crl: x509.CertificateRevocationList) -> set[int]:
    return {entry.serial_number for entry in crl}


def test_a_revocation_makes_the_next_crl_and_silence_keeps_the_last(
    db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    assert number(get(db, pki)) == 1
    serial = issue(db, pki)
    clock.advance(timedelta(hours=5))
    assert number(get(db, pki)) == 1
    revoke(db, "cam-1")
    crl = get(db, pki)
    assert (number(crl), serials(crl)) == (2, {serial})
    reason = crl[0].extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise
    assert number(get(db, pki)) == 2


def test_a_crl_is_signed_anew_long_before_it_ends(db: Database, pki: PkiContext, clock: ManualClock) -> None:
    first = get(db, pki)
    assert first.next_update_utc == clock.now() + timedelta(hours=12)
    clock.advance(timedelta(hours=6, seconds=1))
    assert number(get(db, pki)) == 2


def test_a_renewal_waits_for_the_next_crl_and_is_in_it(
    db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    get(db, pki)
    old = issue(db, pki)
    revoke(db, "cam-1", RevocationReason.SUPERSEDED)
    assert number(get(db, pki)) == 1
    lost = issue(db, pki, "cam-2")
    revoke(db, "cam-2")
    assert serials(get(db, pki)) == {old, lost}
    clock.advance(timedelta(hours=7))
    assert number(get(db, pki)) == 3


def test_an_entry_stays_until_a_crl_after_its_certificate_s_end(
    db: Database, pki: PkiContext, clock: ManualClock
) -> None:
    """RFC 5280 section 3.3."""
    serial = issue(db, pki, lifetime=timedelta(hours=1))
    revoke(db, "cam-1")
    assert serials(get(db, pki)) == {serial}
    clock.advance(timedelta(hours=7))
    assert serials(get(db, pki)) == {serial}
    clock.advance(timedelta(hours=7))
    assert serials(get(db, pki)) == set()


def test_no_revocation_is_missed_though_its_transaction_began_before_the_crl(
    db: Database, pki: PkiContext
) -> None:
    """On PostgreSQL both run at once; SQLite has one writer, and this is then trivially so."""
    if db.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    serial = issue(db, pki)
    get(db, pki)
    with db.write("operator:a") as slow:
        service.revoke_device(slow, "cam-1", "stolen", why=RevocationReason.KEY_COMPROMISE)
        assert serials(get(db, pki)) == set()
    assert serials(get(db, pki)) == {serial}


def test_readers_at_once_get_one_crl(db: Database, pki: PkiContext) -> None:
    issue(db, pki)
    revoke(db, "cam-1")
    found: list[bytes] = []

    def fetch() -> None:
        with db.write("system") as tx:
            found.append(revocation.get_crl(tx, pki.device_ca))

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_each_authority_has_a_crl_of_its_own(db: Database, pki: PkiContext, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "other", db.clock.now())
    serial = issue(db, other)
    revoke(db, "cam-1")
    assert serials(get(db, pki)) == set()
    assert serials(get(db, other)) == {serial}
