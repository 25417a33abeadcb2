"""EST, signed time and the operators' routes over HTTP, with good and bad input."""

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from asn1crypto import core
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from starlette.types import Receive, Scope, Send

from fleetward.base.db import Database
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import DeviceState, HardwareIdentity, HardwareKind
from fleetward.features.enrollment import service
from fleetward.features.enrollment.model import fingerprint_of
from fleetward.features.pki.service import PkiContext
from fleetward.wire import est, signed_time
from support.asgi import AsgiClient
from support.authority import Authority, make_certificate
from support.clock import ManualClock
from support.enrollment import Keypair, WithPeer, add_model, events_of, make_app, make_pki, sqlite_in

EST = "/.well-known/est"
OPERATOR = {"Authorization": "Bearer operator"}


class House(NamedTuple):
    client: AsgiClient
    tls: WithPeer
    db: Database
    pki: PkiContext

    def claim(self, device_id: str = "cam-1") -> str:
        body = {"id": device_id, "model": "cam"}
        answer = self.client.post("/api/v1/devices", json=body, headers=OPERATOR)
        return str(answer.json()["claim"])

    def enroll(self, device_id: str, claim: str, body: bytes) -> httpx.Response:
        return self.client.post(f"{EST}/simpleenroll", content=body, auth=(device_id, claim))

    def enrolled(self, device_id: str = "cam-1") -> x509.Certificate:
        answer = self.enroll(device_id, self.claim(device_id), body_of(Keypair().csr_for(device_id)))
        return est.parse_certificates(answer.content)[0]


def body_of(csr: x509.CertificateSigningRequest) -> bytes:
    return est.render_csr(csr.public_bytes(Encoding.DER))


@pytest.fixture
def db(tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    with sqlite_in(tmp_path, clock) as database:
        yield database


@pytest.fixture
def house(tmp_path: Path, db: Database) -> House:
    add_model(db)
    pki = make_pki(tmp_path, db)
    tls = WithPeer(make_app(tmp_path, db, pki))
    return House(AsgiClient(tls), tls, db, pki)


def test_cacerts_are_our_chain_in_one_line(house: House) -> None:
    answer = house.client.get(f"{EST}/cacerts")
    assert answer.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    assert answer.headers["content-transfer-encoding"] == "base64"
    assert b"\n" not in answer.content
    found = set(est.parse_certificates(answer.content))
    assert found == {house.pki.device_ca.certificate, house.pki.root}


def test_csrattrs_ask_for_a_p256_key(house: House) -> None:
    answer = house.client.get(f"{EST}/csrattrs")
    assert answer.headers["content-type"] == "application/csrattrs"
    found = core.Sequence.load(base64.b64decode(answer.content))
    assert found[0][0].native == "1.2.840.10045.2.1"
    assert core.ObjectIdentifier.load(found[0][1].contents).native == "1.2.840.10045.3.1.7"
    assert found[1].native == "1.2.840.10045.4.3.2"


def test_a_claim_enrolls(house: House) -> None:
    answer = house.enroll("cam-1", house.claim(), body_of(Keypair().csr_for("cam-1")))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    [certificate] = est.parse_certificates(answer.content)
    assert certificate.subject.rfc4514_string() == "CN=cam-1"


def test_a_body_with_line_breaks_is_taken(house: House) -> None:
    der = Keypair().csr_for("cam-1").public_bytes(Encoding.DER)
    assert house.enroll("cam-1", house.claim(), base64.encodebytes(der)).status_code == 200


def test_a_current_certificate_reenrolls(house: House) -> None:
    house.tls.peer = house.enrolled()
    answer = house.client.post(f"{EST}/simplereenroll", content=body_of(Keypair().csr_for("cam-1")))
    assert answer.status_code == 200
    assert est.parse_certificates(answer.content)[0] != house.tls.peer


def test_reenrollment_without_a_certificate_says_what_is_missing(house: House) -> None:
    answer = house.client.post(f"{EST}/simplereenroll", content=body_of(Keypair().csr_for("cam-1")))
    assert answer.status_code == 401
    assert answer.json()["code"] == "device_refused"


def test_an_expired_certificate_is_no_authority(house: House, clock: ManualClock) -> None:
    house.tls.peer = house.enrolled()
    clock.advance(timedelta(hours=25))
    answer = house.client.post(f"{EST}/simplereenroll", content=body_of(Keypair().csr_for("cam-1")))
    assert answer.status_code == 401
    assert answer.json()["reason"] == "certificate_expired"
    [event] = events_of(house.db, "enrollment.refused")
    assert (event.device, event.details["reason"]) == ("cam-1", "certificate_expired")


def test_a_revoked_device_is_refused_and_told_of(house: House) -> None:
    house.tls.peer = house.enrolled()
    with house.db.write("operator:test") as tx:
        devices.end(tx, "cam-1", DeviceState.REVOKED, "stolen")
    answer = house.client.post(f"{EST}/simplereenroll", content=body_of(Keypair().csr_for("cam-1")))
    assert answer.status_code == 401
    [event] = events_of(house.db, "enrollment.refused")
    assert event.device == "cam-1"
    assert "cam-1" in event.message


def test_a_certificate_request_in_anothers_name_is_refused_and_told_of(house: House) -> None:
    house.tls.peer = house.enrolled()
    answer = house.client.post(f"{EST}/simplereenroll", content=body_of(Keypair().csr_for("cam-2")))
    assert (answer.status_code, answer.json()["reason"]) == (400, "name")
    [event] = events_of(house.db, "enrollment.refused")
    assert (event.device, event.details["reason"]) == ("cam-1", "name")


def test_an_idevid_enrolls_when_a_shipment_lists_it(house: House) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    house.tls.peer = make_certificate(
        "SN 1", key.public_key(), Authority("maker").as_issuer(), usage=ExtendedKeyUsageOID.CLIENT_AUTH
    )
    body = body_of(Keypair().csr_for("cam-9"))
    assert house.client.post(f"{EST}/simpleenroll", content=body).status_code == 403
    with house.db.write("operator:test") as tx:
        identity = HardwareIdentity(HardwareKind.IDEVID, fingerprint_of(house.tls.peer))
        devices.register(tx, "cam-9", "cam", hardware=identity)
    assert house.client.post(f"{EST}/simpleenroll", content=body).status_code == 200


def test_without_credentials_the_challenge_names_http_basic(house: House) -> None:
    answer = house.client.post(f"{EST}/simpleenroll", content=body_of(Keypair().csr_for("cam-1")))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Basic realm="fleetward"')
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !!!", "Basic " + base64.b64encode(b"no-colon").decode(), "Bearer x",
               "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(), "Basic " + "A" * 5000],
)  # fmt: skip
def test_malformed_credentials_are_refused(house: House, header: str) -> None:
    answer = house.client.post(
        f"{EST}/simpleenroll", content=body_of(Keypair().csr_for("x")), headers={"Authorization": header}
    )
    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize(
    ("claim_of", "reason"), [("nobody", "unknown"), ("another", "foreign"), ("used", "used")]
)
def test_a_claim_that_does_not_hold_is_refused_with_the_reason(
    house: House, claim_of: str, reason: str
) -> None:
    house.claim("cam-1")
    claim = {"nobody": "A" * 32, "another": "", "used": ""}[claim_of]
    if claim_of == "another":
        claim = house.claim("cam-2")
    if claim_of == "used":
        again = house.client.post("/api/v1/devices/cam-1/claims", json={}, headers=OPERATOR)
        claim = again.json()["claim"]
        assert house.enroll("cam-1", claim, body_of(Keypair().csr_for("cam-1"))).status_code == 200
    answer = house.enroll("cam-1", claim, body_of(Keypair().csr_for("cam-1")))
    assert (answer.status_code, answer.json()["reason"]) == (401, reason)
    [event] = events_of(house.db, "enrollment.refused")
    assert (event.device, event.details["reason"]) == ("cam-1", reason)
    if claim:
        assert claim not in json.dumps(event.as_json())


def test_refusals_do_not_flood_the_events_and_slow_the_stranger_down(house: House) -> None:
    house.claim()
    body = body_of(Keypair().csr_for("cam-1"))
    statuses = [house.enroll("cam-1", "guess", body).status_code for _ in range(15)]
    assert statuses == [401] * 10 + [429] * 5
    assert len(events_of(house.db, "enrollment.refused")) == 1
    answer = house.enroll("cam-1", "guess", body)
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_a_strangers_made_up_ids_share_one_event(house: House) -> None:
    body = body_of(Keypair().csr_for("x"))
    for number in range(8):
        house.enroll(f"made-up-{number}", "guess", body)
    [event] = events_of(house.db, "enrollment.refused")
    assert event.device is None


def sign_with_another_key(csr: x509.CertificateSigningRequest) -> bytes:
    """The request's content under somebody else's signature."""
    der = csr.public_bytes(Encoding.DER)
    other = Keypair().csr_for("cam-1")
    while len(other.signature) != len(csr.signature):
        other = Keypair().csr_for("cam-1")
    return (
        der.replace(csr.signature, other.signature)
        if len(csr.signature) == len(other.signature)
        else der[:-1]
    )


BAD_BODIES: dict[str, bytes] = {
    "empty": b"",
    "not base64": b"!!!!",
    "not ASN.1": base64.b64encode(b"hello, world"),
    "a truncated request": body_of(Keypair().csr_for("cam-1"))[:-40],
    "wrong proof of possession": base64.b64encode(sign_with_another_key(Keypair().csr_for("cam-1"))),
    "a public key": base64.b64encode(
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ),
    "PEM": Keypair().csr_for("cam-1").public_bytes(Encoding.PEM),
    "JSON": b'{"csr": 1}',
    "nested ASN.1": base64.b64encode(b"\x30\x80" * 8000),
    "NUL": b"\x00" * 100,
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_malformed_body_is_one_clear_400_and_costs_nothing(house: House, body: bytes) -> None:
    claim = house.claim()
    answer = house.enroll("cam-1", claim, body)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("certificate request")
    assert house.enroll("cam-1", claim, body_of(Keypair().csr_for("cam-1"))).status_code == 200


def test_an_rsa_key_is_refused(house: House) -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cam-1")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    answer = house.enroll("cam-1", house.claim(), body_of(csr))
    assert (answer.status_code, answer.json()["code"]) == (400, "csr_refused")


def test_an_oversized_request_is_refused_unread(house: House) -> None:
    claim = house.claim()
    assert house.enroll("cam-1", claim, b"A" * 40_000).status_code == 413
    assert house.enroll("cam-1", claim, b"A" * 2_000_000).status_code == 413


def test_signed_time_verifies_against_the_root(house: House, clock: ManualClock) -> None:
    nonce = signed_time.new_nonce()
    answer = house.client.get("/v1/time", params={"nonce": nonce})
    assert answer.headers["cache-control"] == "no-store"
    at = signed_time.verify_signed_time(answer.content, nonce=nonce, roots=[house.pki.root])
    assert at == clock.now()


@pytest.mark.parametrize("nonce", ["", "short", "n" * 129, "with space and more", "n" * 20 + "\n"])
def test_signed_time_wants_a_proper_nonce(house: House, nonce: str) -> None:
    assert house.client.get("/v1/time", params={"nonce": nonce}).status_code == 400


def test_signed_time_wants_a_nonce_at_all(house: House) -> None:
    assert house.client.get("/v1/time").status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/devices"), ("POST", "/devices/import"), ("POST", "/devices/cam-1/claims"),
     ("POST", "/factories"), ("GET", "/factories")],
)  # fmt: skip
def test_a_stranger_may_do_none_of_the_operators_things(house: House, method: str, path: str) -> None:
    body = {"id": "x", "model": "cam", "name": "f", "public_key": ""}
    assert house.client.request(method, f"/api/v1{path}", json=body).status_code == 401


def test_adding_a_device_answers_with_its_claim_and_where_to_use_it(house: House) -> None:
    answer = house.client.post("/api/v1/devices", json={"id": "cam-1", "model": "cam"}, headers=OPERATOR)
    assert answer.status_code == 201
    assert set(answer.json()) == {"id", "claim", "expires_at", "est_url"}
    assert len(answer.json()["claim"]) >= 32


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "a/b", "model": "cam"}, 400),
        ({"id": "x", "model": "none"}, 404),
        ({"id": "x", "model": "cam", "claim_lifetime": "soon"}, 400),
        ({"id": "x", "model": "cam", "extra": 1}, 400),
        ({"model": "cam"}, 400),
    ],
)
def test_a_bad_device_is_refused_by_name(house: House, body: dict[str, object], status: int) -> None:
    answer = house.client.post("/api/v1/devices", json=body, headers=OPERATOR)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_claim_for_an_unknown_device_is_not_made(house: House) -> None:
    answer = house.client.post("/api/v1/devices/nobody/claims", json={}, headers=OPERATOR)
    assert answer.status_code == 404


def test_the_service_lists_what_the_routes_say(house: House) -> None:
    with house.db.read() as tx:
        assert service.list_factories(tx) == []
    assert house.client.get("/api/v1/factories", headers=OPERATOR).json() == []


@pytest.mark.parametrize("name", ["cacerts", "csrattrs"])
def test_the_head_of_what_may_be_got_is_told_alone(house: House, name: str) -> None:
    whole, head = house.client.get(f"{EST}/{name}"), house.client.request("HEAD", f"{EST}/{name}")
    assert head.status_code == 200
    assert head.headers == whole.headers


@pytest.mark.parametrize("before", [b"", b"\r\n "])
def test_a_request_in_pem_is_told_how_to_send_it(house: House, before: bytes) -> None:
    pem = before + Keypair().csr_for("cam-1").public_bytes(Encoding.PEM)
    answer = house.client.post(f"{EST}/simpleenroll", content=pem, auth=("cam-1", "x"))
    assert answer.status_code == 400
    assert "found PEM" in answer.text
    assert "openssl req" in answer.text


def test_an_idevid_that_is_not_der_is_refused_by_name(house: House) -> None:
    der = Authority("maker").certificate.public_bytes(Encoding.DER)

    async def behind_tls(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {"tls": {"client_cert_der": der + b"\0"}}
        await house.tls.app(scope, receive, send)

    answer = AsgiClient(behind_tls).post(f"{EST}/simpleenroll", content=body_of(Keypair().csr_for("cam-1")))
    assert answer.status_code == 400
    assert "IDevID: expected X.509 in DER" in answer.text
