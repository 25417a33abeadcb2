"""Attestation over HTTP: devices by their certificate, operators by theirs; the chip is on paper here."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from fastapi import FastAPI

from fleetward.base.db import Database
from fleetward.base.events import list_events
from fleetward.base.limiting.repeats import Repeats
from fleetward.base.web import BodyLimit, Edge, add_error_handlers
from fleetward.features.attestation import service
from fleetward.features.attestation.context import AttestationContext
from fleetward.features.attestation.http import device_router, router
from fleetward.features.attestation.model import AttestationKey, ReferenceValues
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import DeviceState, KeyTier, Model
from fleetward.features.pki import service as pki
from fleetward.wire.event_log import Measured
from fleetward.wire.evidence import EVIDENCE_PATH, NONCE_PATH, parse_answer, parse_nonce, render_evidence
from support.asgi import AsgiClient
from support.clock import ManualClock
from support.enrollment import OneOperator, WithPeer, sqlite_in
from support.hierarchy import make_csr, make_pki
from support.paper_tpm import DIGESTS, PaperTpm, make_log
from support.tpm_vendor import Authority

OPERATOR = {"authorization": "Bearer operator"}
BOOT, KEYS, IMAGE, MANIFEST = (digest.hex() for digest in DIGESTS.values())


@dataclass
class House:
    """A platform with one device, its chip, and what plays TLS."""

    app: FastAPI
    client: AsgiClient
    tls: WithPeer
    db: Database
    certificate: x509.Certificate
    chip: PaperTpm = field(default_factory=PaperTpm)

    def device(self, method: str, path: str, **more: Any) -> httpx.Response:
        self.tls.peer = self.certificate
        return self.client.request(method, path, **more)

    def operator(self, method: str, path: str, **more: Any) -> httpx.Response:
        self.tls.peer = None
        return self.client.request(method, f"/api/v1{path}", headers=OPERATOR, **more)

    def nonce(self) -> bytes:
        return parse_nonce(self.device("GET", NONCE_PATH).content).nonce

    def refusals(self) -> list[tuple[str, list[str]]]:
        with self.db.read() as tx:
            found = list_events(tx, device="cam-1")
        failed = [event for event in found if event.kind == "attestation.failed"]
        return [(event.severity.value, event.details["reasons"]) for event in failed]


@pytest.fixture
def house(tmp_path: Path, clock: ManualClock) -> Iterator[House]:
    with sqlite_in(tmp_path, clock) as db:
        yield furnish(db, tmp_path)


def furnish(db: Database, folder: Path) -> House:
    app = FastAPI()
    add_error_handlers(app)
    app.add_middleware(BodyLimit)
    app.state.edge = Edge(db, OneOperator())
    app.state.attestation = AttestationContext()
    app.state.pki = context = make_pki(folder, db.clock.now())
    app.include_router(router, prefix="/api/v1")
    app.include_router(device_router)
    model = Model("cam")
    chip = PaperTpm()
    with db.write("operator:a") as tx:
        devices.add_model(tx, model)
        devices.register(tx, "cam-1", "cam")
        devices.record_enrollment(tx, "cam-1", KeyTier.TPM)
        issued = pki.issue_device_certificate(tx, context, "cam-1", make_csr(), model.cert_lifetime)
        service.bind_key(tx, AttestationKey("cam-1", "1" * 64, chip.ak_public, tx.now))
        service.add_boot_reference(tx, Measured.BOOT_STAGE, BOOT, "0.1.0")
        service.add_boot_reference(tx, Measured.PINNED_KEYS, KEYS, "")
        service.add_reference(tx, "cam", "1.0.0", ReferenceValues(IMAGE, MANIFEST))
    tls = WithPeer(app)
    return House(app, AsgiClient(tls), tls, db, issued.certificate, chip)


def test_a_device_attests_in_two_requests(house: House) -> None:
    body = render_evidence(house.chip.evidence(house.nonce()))
    answer = house.device("POST", EVIDENCE_PATH, content=body)
    verdict = parse_answer(answer.content)
    assert (answer.status_code, verdict.good, verdict.reasons) == (200, True, [])
    shown = house.operator("GET", "/devices/cam-1/appraisals").json()
    assert [(one["good"], one["firmware_version"], one["reset_count"]) for one in shown] == [
        (True, "1.0.0", 7)
    ]
    assert shown[0]["expires_at"] == verdict.expires_at


def test_a_bad_verdict_is_an_answer_with_reasons(house: House) -> None:
    log = make_log(firmware_image=b"\6" * 32)
    body = render_evidence(house.chip.evidence(house.nonce(), log))
    answer = house.device("POST", EVIDENCE_PATH, content=body)
    verdict = parse_answer(answer.content)
    assert (answer.status_code, verdict.good) == (200, False)
    assert [reason["code"] for reason in verdict.reasons] == ["unknown_firmware_image"]
    assert house.refusals() == [("critical", ["unknown_firmware_image"])]


def test_replayed_evidence_is_refused_and_told(house: House) -> None:
    body = render_evidence(house.chip.evidence(house.nonce()))
    assert parse_answer(house.device("POST", EVIDENCE_PATH, content=body).content).good
    for _ in range(3):
        answer = house.device("POST", EVIDENCE_PATH, content=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "evidence_refused")
        assert answer.json()["reason"] == "quote_stale"
    assert house.refusals() == [("warning", ["quote_stale"])]
    assert house.device("POST", EVIDENCE_PATH, content=b"junk").status_code == 400
    assert house.refusals() == [("warning", ["quote_stale"]), ("warning", ["invalid_input"])]
    assert house.operator("GET", "/devices/cam-1/appraisals").json()[0]["good"]


def test_refused_evidence_is_told_again_after_its_time_with_what_came_meanwhile(house: House) -> None:
    house.app.state.attestation = AttestationContext(Repeats(interval_s=0))
    for _ in range(2):
        house.device("POST", EVIDENCE_PATH, content=b"junk")
    assert house.refusals() == [("warning", ["invalid_input"])] * 2


def test_evidence_that_is_refused_again_and_again_costs_no_transaction(house: House) -> None:
    """A device sends it as fast as it likes; whoever writes meanwhile does not wait for it."""
    house.device("POST", EVIDENCE_PATH, content=b"junk")
    begun: list[str] = []
    sa.event.listen(house.db.engine, "before_cursor_execute", lambda *args: begun.append(args[2]))
    for _ in range(5):
        assert house.device("POST", EVIDENCE_PATH, content=b"junk").status_code == 400
    assert [one for one in begun if "events" in one or one.startswith(("BEGIN IMMEDIATE", "INSERT"))] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b'{"quote":"AA=="}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"event_log":' * 5_000, 400),
        (b" " * 200_000, 413),
        (b" " * 2_000_000, 413),
    ],
    ids=["empty", "null", "partial", "not-text", "deep", "deep-object", "large", "over-the-door"],
)
def test_junk_is_a_clear_refusal(house: House, body: bytes, status: int) -> None:
    answer = house.device("POST", EVIDENCE_PATH, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_nobody_attests_without_a_certificate(house: House) -> None:
    for method, path in (("GET", NONCE_PATH), ("POST", EVIDENCE_PATH)):
        assert house.client.request(method, path).status_code == 401


def test_a_revoked_device_gets_no_nonce(house: House) -> None:
    with house.db.write("operator:a") as tx:
        devices.end(tx, "cam-1", DeviceState.REVOKED, "lost")
    assert house.device("GET", NONCE_PATH).status_code == 401


def test_too_much_evidence_is_put_off(house: House) -> None:
    for _ in range(12):
        house.device("POST", EVIDENCE_PATH, content=render_evidence(house.chip.evidence(house.nonce())))
    answer = house.device("GET", NONCE_PATH)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


def test_strangers_learn_and_change_nothing(house: House) -> None:
    for method, path in (
        ("GET", "/devices/cam-1/appraisals"),
        ("GET", "/models/cam/references"),
        ("POST", "/models/cam/references"),
        ("POST", f"/models/cam/references/{IMAGE}/withdraw"),
        ("GET", "/attestation/ek-roots"),
        ("POST", "/attestation/ek-roots"),
        ("POST", f"/attestation/ek-roots/{'0' * 64}/withdraw"),
    ):
        body = {"kind": "boot_stage", "digest": BOOT, "pem": "x"}
        answer = house.client.request(method, f"/api/v1{path}", json=body if method == "POST" else None)
        assert answer.status_code in {400, 401}, path
        assert "0.1.0" not in answer.text


def test_an_operator_adds_and_withdraws_a_reference(house: House) -> None:
    body = {"kind": "boot_stage", "digest": "ab" * 32, "version": "0.0.9"}
    added = house.operator("POST", "/models/cam/references", json=body)
    assert (added.status_code, added.json()) == (201, {**body, "model": "cam", "withdrawn_at": None})
    after = house.operator("POST", f"/models/cam/references/{'ab' * 32}/withdraw").json()
    assert [one["withdrawn_at"] is None for one in after if one["digest"] == "ab" * 32] == [False]
    assert len(house.operator("GET", "/models/cam/references").json()) == 5
    assert house.operator("POST", f"/models/cam/references/{'cd' * 32}/withdraw").status_code == 404
    assert house.operator("POST", f"/models/*/references/{BOOT}/withdraw").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "boot_stage", "digest": "xyz"},
        {"kind": "firmware_image", "digest": "ab" * 32},
        {"kind": "anything", "digest": "ab" * 32},
        {"kind": "boot_stage", "digest": "ab" * 32, "version": "v" * 65},
        {"kind": "boot_stage", "digest": "ab" * 32, "more": 1},
    ],
)
def test_a_bad_reference_is_refused(house: House, body: dict[str, Any]) -> None:
    assert house.operator("POST", "/models/cam/references", json=body).status_code == 400


def test_an_operator_trusts_and_distrusts_a_vendor(house: House) -> None:
    root = Authority("Vendor Root")
    pem = {"pem": root.pem.decode()}
    assert house.operator("POST", "/attestation/ek-roots", json=pem).json() == {"added": 1}
    assert house.operator("POST", "/attestation/ek-roots", json=pem).json() == {"added": 0}
    fingerprint = root.certificate.fingerprint(hashes.SHA256()).hex()
    shown = house.operator("GET", "/attestation/ek-roots").json()
    assert [(one["fingerprint"], one["subject"]) for one in shown] == [(fingerprint, "CN=Vendor Root")]
    assert house.operator("POST", f"/attestation/ek-roots/{fingerprint}/withdraw").json() == []
    assert house.operator("POST", f"/attestation/ek-roots/{fingerprint}/withdraw").status_code == 404
    junk = {"pem": base64.b64encode(b"junk").decode()}
    assert house.operator("POST", "/attestation/ek-roots", json=junk).status_code == 400
