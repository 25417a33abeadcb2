"""Everything we sign passes an RFC 5280 linter that nobody here wrote."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from asn1crypto import ocsp as asn1_ocsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from fleetward.base.db import Database
from fleetward.features.pki import service
from fleetward.features.pki.authority.ceremony import ensure_server_certificate, load_root
from fleetward.features.pki.authority.profiles import RevocationUrls
from fleetward.features.pki.model import RevocationReason
from fleetward.features.pki.service import PkiContext, revocation
from fleetward.migrations.runner import migrate
from support.clock import ManualClock
from support.database import open_database
from support.hierarchy import make_csr, make_pki
from support.lint import lint_certificate, lint_crl, lint_ocsp

DAY = timedelta(days=1)
URLS = RevocationUrls(
    crl="https://fleet.example.com:9443/pki/crl/device-ca.crl",
    ocsp="https://fleet.example.com:9443/pki/ocsp",
    issuer="https://fleet.example.com:9443/pki/ca/device-ca.crt",
)


@pytest.fixture
def pki(tmp_path: Path, clock: ManualClock) -> PkiContext:
    pki = make_pki(tmp_path, clock.now())
    return PkiContext(pki.trust_domain, pki.root, pki.device_ca, pki.server_ca, URLS)


@pytest.fixture
def db(tmp_path: Path, clock: ManualClock) -> Database:
    database = open_database(f"sqlite:///{tmp_path / 'db.sqlite3'}", clock)
    migrate(database)
    return database


def issue(db: Database, pki: PkiContext, device: str, lifetime: timedelta = DAY) -> x509.Certificate:
    with db.write("device:x") as tx:
        return service.issue_device_certificate(tx, pki, device, make_csr(device), lifetime).certificate


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def test_the_hierarchy_is_clean(pki: PkiContext, tmp_path: Path) -> None:
    time_signer = x509.load_pem_x509_certificate((tmp_path / "tls" / "time.crt").read_bytes())
    for certificate in (
        load_root(tmp_path),
        pki.device_ca.certificate,
        pki.server_ca.certificate,
        time_signer,
    ):
        assert lint_certificate(der(certificate)) == []


def test_server_certificates_are_clean(pki: PkiContext, tmp_path: Path, clock: ManualClock) -> None:
    for names in (["fleet.example.com", "127.0.0.1", "::1"], ["10.0.0.7"], [f"{'a' * 60}.example.com"]):
        ensure_server_certificate(tmp_path, pki.server_ca, names, clock.now())
        leaf = x509.load_pem_x509_certificates((tmp_path / "tls" / "server.pem").read_bytes())[0]
        assert lint_certificate(der(leaf)) == []


@pytest.mark.parametrize(
    ("device", "lifetime"), [("cam-1", DAY), ("a" * 64, timedelta(minutes=2)), ("X_1", 40 * DAY)]
)
def test_device_certificates_are_clean(
    db: Database, pki: PkiContext, device: str, lifetime: timedelta
) -> None:
    findings = lint_certificate(der(issue(db, pki, device, lifetime)))
    # The linter's list of URI schemes lacks `spiffe`.
    assert findings == [f'pkix.invalid_uri_syntax: Invalid URI syntax: "spiffe://fleet.test/device/{device}"']


@pytest.mark.parametrize("reason", list(RevocationReason))
def test_crls_are_clean(db: Database, pki: PkiContext, reason: RevocationReason) -> None:
    with db.write("system") as tx:
        assert lint_crl(revocation.get_crl(tx, pki.device_ca)) == []
    issue(db, pki, "cam-1")
    with db.write("operator:a") as tx:
        service.revoke_device(tx, "cam-1", "stolen", why=reason)
        assert lint_crl(revocation.get_crl(tx, pki.device_ca)) == []


@pytest.mark.parametrize("prepare", [lambda *_: None, service.revoke_device], ids=["good", "revoked"])
def test_ocsp_answers_are_clean(db: Database, pki: PkiContext, prepare: Callable[..., object]) -> None:
    certificate = issue(db, pki, "cam-1")
    request = ocsp.OCSPRequestBuilder().add_certificate(
        certificate, pki.device_ca.certificate, hashes.SHA256()
    )
    body = request.add_extension(x509.OCSPNonce(b"n" * 32), critical=False).build()
    with db.write("operator:a") as tx:
        prepare(tx, "cam-1", "stolen")
        assert lint_ocsp(revocation.answer_ocsp(tx, pki, body.public_bytes(Encoding.DER))) == []


def test_an_ocsp_answer_about_several_is_clean(db: Database, pki: PkiContext) -> None:
    asked = []
    for name in ("cam-1", "cam-2"):
        builder = ocsp.OCSPRequestBuilder().add_certificate(
            issue(db, pki, name), pki.device_ca.certificate, hashes.SHA256()
        )
        asked.append(asn1_ocsp.OCSPRequest.load(builder.build().public_bytes(Encoding.DER)))
    asked[0]["tbs_request"]["request_list"] = [one["tbs_request"]["request_list"][0] for one in asked]
    with db.write("operator:a") as tx:
        service.revoke_device(tx, "cam-2", "stolen")
        answer = revocation.answer_ocsp(tx, pki, asked[0].dump(force=True))
    assert len(list(ocsp.load_der_ocsp_response(answer).responses)) == 2
    assert lint_ocsp(answer) == []


def test_a_certificate_that_names_http_beside_https_is_clean(db: Database, pki: PkiContext) -> None:
    crl, ocsp_url, issuer = (one.replace("https:", "http:") for one in (URLS.crl, URLS.ocsp, URLS.issuer))
    plain = RevocationUrls(crl, ocsp_url, issuer)
    both = replace(pki, urls=replace(pki.urls, plain=plain))
    findings = lint_certificate(der(issue(db, both, "cam-1")))
    assert findings == ['pkix.invalid_uri_syntax: Invalid URI syntax: "spiffe://fleet.test/device/cam-1"']
