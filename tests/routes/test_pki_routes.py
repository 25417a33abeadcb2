"""What anyone may fetch of our authorities, and what operators see."""

import base64
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest
from asn1crypto import ocsp as asn1_ocsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetward.base.db import Database
from fleetward.features.pki import service
from fleetward.features.pki.model import RevocationReason
from fleetward.features.pki.service import IssuedCertificate, PkiContext
from support.asgi import AsgiClient
from support.clock import ManualClock
from support.hierarchy import make_csr, make_pki
from support.pki_app import OPERATOR, make_pki_app

MALFORMED = ocsp.OCSPResponseStatus.MALFORMED_REQUEST


class House(NamedTuple):
    client: AsgiClient
    db: Database
    pki: PkiContext
    issued: IssuedCertificate

    def revoke(self) -> None:
        with self.db.write("operator:a") as tx:
            service.revoke_device(tx, "cam-1", "stolen", why=RevocationReason.KEY_COMPROMISE)

    def question(
        self, serial: int | None = None, issuer: x509.Certificate | None = None, nonce: bytes | None = None
    ) -> bytes:
        """Return an OCSP request about a serial of ours."""
        builder = ocsp.OCSPRequestBuilder()
        if serial is None:
            certificate, ca = self.issued.certificate, issuer or self.pki.device_ca.certificate
            builder = builder.add_certificate(certificate, ca, hashes.SHA1())  # noqa: S303 - as clients do
        else:
            builder = builder.add_certificate_by_hash(bytes(32), bytes(32), serial, hashes.SHA256())
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        return builder.build().public_bytes(Encoding.DER)

    def ask(self, body: bytes) -> ocsp.OCSPResponse:
        answer = self.client.post("/pki/ocsp", content=body)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/ocsp-response"
        return ocsp.load_der_ocsp_response(answer.content)


@pytest.fixture
def house(db: Database, tmp_path: Path, clock: ManualClock) -> House:
    pki = make_pki(tmp_path, clock.now())
    with db.write("device:cam-1") as tx:
        issued = service.issue_device_certificate(tx, pki, "cam-1", make_csr("cam-1"), timedelta(days=1))
    return House(AsgiClient(make_pki_app(db, pki)), db, pki, issued)


def test_ocsp_says_good_then_revoked_and_why(house: House) -> None:
    assert house.ask(house.question()).certificate_status is ocsp.OCSPCertStatus.GOOD
    house.revoke()
    answer = house.ask(house.question())
    assert answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert answer.revocation_reason is x509.ReasonFlags.key_compromise


def test_ocsp_knows_neither_a_foreign_issuer_nor_a_foreign_serial(house: House) -> None:
    for body in (house.question(issuer=house.pki.root), house.question(serial=77)):
        assert house.ask(body).certificate_status is ocsp.OCSPCertStatus.UNKNOWN


def test_ocsp_echoes_a_nonce_of_sane_length(house: House) -> None:
    answer = house.ask(house.question(nonce=b"n" * 32))
    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
    assert len(house.ask(house.question(nonce=b"n" * 33)).extensions) == 0


def test_ocsp_by_get_answers_as_by_post(house: House) -> None:
    for nonce in (bytes([255] * 16), bytes([251, 239] * 8)):  # base64 of '/' and of '+'
        encoded = base64.b64encode(house.question(nonce=nonce)).decode()
        for path in (encoded, quote(encoded, safe="")):
            answer = ocsp.load_der_ocsp_response(house.client.get(f"/pki/ocsp/{path}").content)
            assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
    refused = house.client.get("/pki/ocsp/no*base64")
    assert ocsp.load_der_ocsp_response(refused.content).response_status is MALFORMED


def test_ocsp_refuses_what_is_no_request(house: House) -> None:
    sha256 = ocsp.OCSPRequestBuilder().add_certificate_by_hash(bytes(32), bytes(32), 1, hashes.SHA256())
    whole = sha256.build().public_bytes(Encoding.DER)
    short_hash = whole.replace(b"\x04\x20" + bytes(32), b"\x04\x20" + bytes(32), 1)[:-1]
    negative = whole[:-1] + b"\xff"
    for body in (b"", b"junk", bytes(3000), house.question() + b"\0", short_hash, negative):
        assert house.ask(body).response_status is MALFORMED


def several(*questions: bytes) -> bytes:
    """Return one request about all of them, with the extensions of the first."""
    parsed = [asn1_ocsp.OCSPRequest.load(one) for one in questions]
    whole = parsed[0].copy()
    whole["tbs_request"]["request_list"] = [one["tbs_request"]["request_list"][0] for one in parsed]
    der: bytes = whole.dump(force=True)
    return der


def test_ocsp_answers_several_questions_in_one_signed_answer(house: House) -> None:
    house.revoke()
    unknown = [house.question(serial=77 + at) for at in range(3)]
    answer = house.ask(several(house.question(nonce=b"n" * 16), *unknown))
    found = [(one.serial_number, one.certificate_status) for one in answer.responses]
    assert found[0] == (house.issued.serial, ocsp.OCSPCertStatus.REVOKED)
    assert found[1:] == [(77 + at, ocsp.OCSPCertStatus.UNKNOWN) for at in range(3)]
    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 16
    key = house.pki.device_ca.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


def test_ocsp_by_get_about_several_may_be_cached_too(house: House) -> None:
    encoded = base64.b64encode(several(house.question(), house.question(serial=77))).decode()
    answer = house.client.get(f"/pki/ocsp/{quote(encoded, safe='')}")
    assert len(list(ocsp.load_der_ocsp_response(answer.content).responses)) == 2
    assert "max-age=300" in answer.headers["cache-control"]


def test_ocsp_about_certificates_of_two_of_our_cas_is_for_neither_to_answer(
    house: House, tmp_path: Path, clock: ManualClock
) -> None:
    other = make_pki(tmp_path / "other", clock.now()).device_ca
    both = replace(house.pki, earlier_device_cas=(other,))
    house = house._replace(client=AsgiClient(make_pki_app(house.db, both)))
    answer = house.ask(several(house.question(), house.question(issuer=other.certificate)))
    assert answer.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


@pytest.mark.parametrize(
    "body",
    [
        bytes.fromhex("3000"),
        bytes.fromhex("30023000"),
        bytes.fromhex("300430023000"),
        bytes.fromhex("3083000001"),
        bytes.fromhex("3080"),
        bytes.fromhex("30"),
        bytes.fromhex("3006300430003000"),
        bytes.fromhex("3003020100"),
    ],
)
def test_what_lists_no_question_is_malformed(house: House, body: bytes) -> None:
    assert house.ask(body).response_status is MALFORMED


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_changed_ocsp_request_is_our_failure(house: House, data: st.DataObject) -> None:
    one = house.question(nonce=b"n" * 16)
    body = bytearray(data.draw(st.sampled_from([one, several(one, house.question(serial=77))])))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    house.ask(bytes(body))


def test_the_crl_lists_a_revocation_at_once_and_is_kept_till_then(house: House, clock: ManualClock) -> None:
    def fetch() -> x509.CertificateRevocationList:
        answer = house.client.get("/pki/crl/device-ca.crl")
        assert answer.headers["content-type"] == "application/pkix-crl"
        return x509.load_der_x509_crl(answer.content)

    empty = fetch()
    clock.advance(timedelta(minutes=1))
    assert fetch() == empty
    house.revoke()
    serials = [entry.serial_number for entry in fetch()]
    assert serials == [house.issued.serial]


def test_authorities_are_public(house: House) -> None:
    for name, certificate in {
        "root": house.pki.root,
        "device-ca": house.pki.device_ca.certificate,
        "server-ca": house.pki.server_ca.certificate,
    }.items():
        answer = house.client.get(f"/pki/ca/{name}.crt")
        assert answer.headers["content-type"] == "application/pkix-cert"
        assert x509.load_der_x509_certificate(answer.content) == certificate
    assert house.client.get("/pki/ca/other.crt").status_code == 404
    assert house.client.get("/pki/ca/..%2fkeys%2fdevice-ca.crt").status_code == 404


def test_operators_see_authorities_and_a_device_s_certificates(house: House) -> None:
    house.revoke()
    authorities = house.client.get("/api/v1/pki/authorities", headers=OPERATOR).json()
    assert [one["name"] for one in authorities] == ["root", "device-ca", "server-ca"]
    found = house.client.get("/api/v1/devices/cam-1/certificates", headers=OPERATOR).json()
    assert found == [
        {
            "serial": f"{house.issued.serial:x}",
            "not_before": "2026-06-01T11:55:00.000Z",
            "not_after": "2026-06-02T12:00:00.000Z",
            "issued_at": "2026-06-01T12:00:00.000Z",
            "revoked_at": "2026-06-01T12:00:00.000Z",
            "revocation_reason": "key_compromise",
            "revocation_note": "stolen",
        }
    ]


@pytest.mark.parametrize("path", ["/api/v1/pki/authorities", "/api/v1/devices/cam-1/certificates"])
def test_strangers_see_neither(house: House, path: str) -> None:
    assert house.client.get(path).status_code == 401


def test_an_answer_by_get_may_be_cached_for_a_while(house: House) -> None:
    """RFC 5019 section 6.2, and never as long as the answer is good for."""
    encoded = base64.b64encode(house.question()).decode()
    answer = house.client.get(f"/pki/ocsp/{quote(encoded, safe='')}")
    assert answer.headers["cache-control"] == "max-age=300, public, no-transform, must-revalidate"
    assert answer.headers["expires"] == "Mon, 01 Jun 2026 12:05:00 GMT"
    assert answer.headers["last-modified"] == "Mon, 01 Jun 2026 12:00:00 GMT"
    assert answer.headers["etag"]
    assert house.client.get("/pki/ocsp/MAA%3D").headers.get("cache-control") == "no-store"


def test_a_reason_that_says_nothing_is_left_out(house: House) -> None:
    with house.db.write("operator:ann") as tx:
        service.revoke_certificate(tx, house.issued.serial, "a mistake")
    assert house.ask(house.question()).revocation_reason is None


def test_an_entry_of_the_crl_is_not_dated_after_it(house: House) -> None:
    house.revoke()
    crl = x509.load_der_x509_crl(house.client.get("/pki/crl/device-ca.crl").content)
    (entry,) = crl
    assert entry.revocation_date_utc <= crl.last_update_utc


def revoke_by_hand(
    house: House, device: str = "cam-1", serial: str | None = None, **more: Any
) -> httpx.Response:
    path = f"/api/v1/devices/{device}/certificates/{serial or f'{house.issued.serial:x}'}/revoke"
    return house.client.post(path, json={"reason": "stolen in the yard", **more}, headers=OPERATOR)


def test_a_certificate_is_revoked_by_hand_with_the_reason_as_said(house: House) -> None:
    first = revoke_by_hand(house).json()
    assert (first["revocation_reason"], first["revocation_note"]) == ("key_compromise", "stolen in the yard")
    again = revoke_by_hand(house, reason="twice", why="unspecified").json()
    assert again == first, "the first word stays"
    assert house.ask(house.question()).revocation_reason is x509.ReasonFlags.key_compromise
    listed = house.client.get("/api/v1/devices/cam-1/certificates", headers=OPERATOR).json()
    assert [one["revocation_note"] for one in listed] == ["stolen in the yard"]


@pytest.mark.parametrize(
    ("why", "flag"),
    [("cessation_of_operation", x509.ReasonFlags.cessation_of_operation), ("unspecified", None)],
)
def test_relying_parties_are_told_the_reason_that_was_chosen(
    house: House, why: str, flag: x509.ReasonFlags | None
) -> None:
    revoke_by_hand(house, serial=":".join(re.findall("..?", f"{house.issued.serial:X}")), why=why)
    assert house.ask(house.question()).revocation_reason is flag


def test_what_cannot_be_revoked_by_hand_is_refused(house: House) -> None:
    assert revoke_by_hand(house, "cam-2").status_code == 404, "a certificate of another device"
    assert revoke_by_hand(house, serial="77").status_code == 404
    for serial in ("xyz", "1" * 41):
        assert revoke_by_hand(house, serial=serial).status_code == 400
    for more in ({"why": "superseded"}, {"reason": ""}, {"reason": "x" * 201}, {"colour": "red"}):
        assert revoke_by_hand(house, **more).status_code == 400, more
    assert house.ask(house.question()).certificate_status is ocsp.OCSPCertStatus.GOOD
