"""The TPM lane from chip to certificate: the device's machine and a (software) TPM against our routes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.clock import SystemClock
from fleetward.base.db import Database
from fleetward.features.attestation import service as attestation
from fleetward.features.attestation.device import make_evidence
from fleetward.features.attestation.model import ReferenceValues
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import (
    AttestationPolicy,
    DeviceState,
    HardwareIdentity,
    HardwareKind,
    KeyTier,
)
from fleetward.features.enrollment import device as d
from fleetward.features.enrollment import service
from fleetward.features.enrollment.model import fingerprint_of
from fleetward.outside.keys.tpm import TpmKeyStore
from fleetward.wire import enroll, est
from fleetward.wire.event_log import LogEntry, Measured, make_entry
from fleetward.wire.evidence import parse_evidence
from support.asgi import AsgiClient
from support.clock import ManualClock
from support.enrolling import Device, Disk, sign_csr
from support.enrollment import WithPeer, add_model, events_of, make_app, make_pki, sqlite_in
from support.swtpm import Swtpm, running_swtpm

HOUR = timedelta(hours=1)
BOOT, KEYS, IMAGE, MANIFEST = (hashlib.sha256(name).digest() for name in (b"b", b"k", b"i", b"m"))
GOOD_LOG = (
    make_entry(0, Measured.BOOT_STAGE, BOOT),
    make_entry(1, Measured.PINNED_KEYS, KEYS),
    make_entry(2, Measured.IMAGE, IMAGE, version="1.0.0"),
    make_entry(3, Measured.MANIFEST, MANIFEST, version="1.0.0"),
)
EVIL_LOG = (*GOOD_LOG[:2], make_entry(2, Measured.IMAGE, b"\6" * 32), GOOD_LOG[3])


@dataclass
class House:
    """A platform, and the requests it got."""

    client: AsgiClient
    tls: WithPeer
    db: Database
    clock: ManualClock
    root_pem: bytes
    sent: list[str] = field(default_factory=list)
    is_answer_lost: bool = False

    def link(self, request: d.SendRequest, disk: Disk, _now: object) -> d.ResponseReceived | d.RequestFailed:
        self.tls.peer = None
        if request.client_key is not None:
            self.tls.peer = x509.load_pem_x509_certificate(disk.certificates[request.client_key])
        answer = self.client.request(
            request.method, request.path, content=request.body, headers=request.headers
        )
        self.sent.append(f"{request.path.partition('?')[0]} {answer.status_code}")
        if self.is_answer_lost and answer.status_code == 200 and "/tpm/" in request.path:
            self.is_answer_lost = False
            return d.RequestFailed("connection reset")
        return d.ResponseReceived(answer.status_code, dict(answer.headers), answer.content)


class ChipDevice(Device):
    """A device whose keys live in a chip; it boots what `log` says."""

    tpm: TpmKeyStore
    log_of_boot: tuple[LogEntry, ...] = GOOD_LOG

    def make_key(self, label: str) -> bytes:
        return (self.tpm.find_key(label) or self.tpm.create_key(label)).sign_csr("cam-1")

    def delete_key(self, label: str) -> None:
        self.tpm.delete_key(label)

    def prove_chip(self, command: d.ProveChip) -> d.Event:
        secret = self.tpm.activate_credential(command.credential_blob, command.encrypted_secret)
        info, signature = self.tpm.certify_key(command.label, command.nonce)
        evidence = None
        if command.with_evidence:
            evidence = make_evidence(self.tpm, command.nonce, self.log_of_boot)
        return d.ChipProved(secret, info, signature, evidence)


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    with running_swtpm(tmp_path_factory.mktemp("chip")) as started:
        yield started


@pytest.fixture
def tpm(chip: Swtpm, tmp_path: Path) -> TpmKeyStore:
    return TpmKeyStore(chip.tcti, tmp_path / "blobs")


@pytest.fixture
def house(chip: Swtpm, tmp_path: Path) -> Iterator[House]:
    clock = ManualClock(SystemClock().now())  # the chip was certified today
    with sqlite_in(tmp_path, clock) as db:
        yield furnish(db, chip, tmp_path, clock)


def furnish(db: Database, chip: Swtpm, folder: Path, clock: ManualClock) -> House:
    """A platform that trusts the chip's maker, with one model that demands a TPM and good evidence."""
    pki = make_pki(folder, db)
    add_model(db, "cam", attestation=AttestationPolicy.REQUIRED, min_tier=KeyTier.TPM)
    with db.write("operator:test") as tx:
        attestation.add_ek_anchors(tx, chip.vendor_root.read_bytes() + chip.vendor_issuer.read_bytes())
        attestation.add_boot_reference(tx, Measured.BOOT_STAGE, BOOT.hex(), "1")
        attestation.add_boot_reference(tx, Measured.PINNED_KEYS, KEYS.hex(), "1")
        attestation.add_reference(tx, "cam", "1.0.0", ReferenceValues(IMAGE.hex(), MANIFEST.hex()))
    tls = WithPeer(make_app(folder, db, pki))
    return House(AsgiClient(tls), tls, db, clock, pki.root.public_bytes(Encoding.PEM))


def ship(house: House, tpm: TpmKeyStore, device_id: str = "cam-1") -> None:
    """Register the chip as its factory's manifest would."""
    certificate = x509.load_der_x509_certificate(tpm.ek_certificate_chain()[0])
    identity = HardwareIdentity(HardwareKind.TPM_EK, fingerprint_of(certificate))
    with house.db.write("operator:test") as tx:
        devices.register(tx, device_id, "cam", hardware=identity)


def power_on(house: House, tpm: TpmKeyStore, disk: Disk, log: tuple[LogEntry, ...] = GOOD_LOG) -> ChipDevice:
    chip = d.Chip(tuple(tpm.ek_certificate_chain()), tpm.ak_public())
    settings = d.Settings("cam-1", house.root_pem, earliest=house.clock.now() - 30 * HOUR, chip=chip)
    ChipDevice.tpm, ChipDevice.log_of_boot = tpm, log
    return ChipDevice(settings, disk, house.link, house.clock.now())


def tier_of(house: House) -> KeyTier | None:
    with house.db.read() as tx:
        return devices.get_device(tx, "cam-1").tier


def boot(chip: Swtpm, tpm: TpmKeyStore, log: tuple[LogEntry, ...] = GOOD_LOG) -> None:
    chip.power_cycle()
    for entry in log:
        tpm.extend_pcr(entry.pcr, entry.digest)


def test_a_shipped_chip_enrolls_without_a_claim_and_renews(house: House, tpm: TpmKeyStore) -> None:
    ship(house, tpm)
    disk = Disk()
    device = power_on(house, tpm, disk)
    assert device.machine.phase(device.now) is d.Phase.ENROLLED
    assert tier_of(house) is KeyTier.TPM
    certificate = x509.load_pem_x509_certificate(disk.certificates["device-1"])
    assert certificate.public_key() == tpm.open_key("device-1").public_key

    device.tell(d.Connected("device-1"))
    house.clock.advance(15 * HOUR)
    device.run_until(house.clock.now())
    device.tell(d.Connected("device-2"))
    assert tpm.list_labels() == ["device-2"]
    lanes = [event.details["lane"] for event in events_of(house.db, "enrollment.completed")]
    assert lanes == ["tpm-enroll"]
    assert len(events_of(house.db, "certificate.issued")) == 2


def test_a_claim_ties_an_unknown_chip_to_its_device(house: House, tpm: TpmKeyStore) -> None:
    with house.db.write("operator:test") as tx:
        _, claim = service.add_device(tx, "cam-1", "cam")
    disk = Disk(claim=claim.token)
    device = power_on(house, tpm, disk)
    assert device.machine.phase(device.now) is d.Phase.ENROLLED
    assert disk.claim is None
    with house.db.read() as tx:
        hardware = devices.get_device(tx, "cam-1").hardware
    assert hardware is not None
    assert hardware.kind is HardwareKind.TPM_EK


def test_a_lost_answer_is_given_again(house: House, tpm: TpmKeyStore) -> None:
    with house.db.write("operator:test") as tx:
        _, claim = service.add_device(tx, "cam-1", "cam")
    house.is_answer_lost = True
    device = power_on(house, tpm, Disk(claim=claim.token))
    device.run_until(device.now + timedelta(minutes=1))
    assert device.machine.phase(device.now) is d.Phase.ENROLLED
    assert len(events_of(house.db, "enrollment.completed")) == 1


def test_a_chip_nobody_vouches_for_is_refused(house: House, tpm: TpmKeyStore) -> None:
    with house.db.write("operator:test") as tx:
        devices.register(tx, "cam-1", "cam")
    device = power_on(house, tpm, Disk())
    assert device.machine.phase(device.now) is d.Phase.ENROLLING
    [event] = events_of(house.db, "enrollment.refused")
    assert (event.device, event.details["reason"]) == ("cam-1", "chip_unknown")


def test_a_chip_shipped_as_another_device_is_refused(house: House, tpm: TpmKeyStore) -> None:
    ship(house, tpm, "cam-7")
    with house.db.write("operator:test") as tx:
        devices.register(tx, "cam-1", "cam")
    device = power_on(house, tpm, Disk())
    assert device.machine.phase(device.now) is d.Phase.ENROLLING


def test_a_revoked_device_neither_enrolls_nor_recovers(house: House, tpm: TpmKeyStore) -> None:
    ship(house, tpm)
    with house.db.write("operator:test") as tx:
        devices.end(tx, "cam-1", DeviceState.REVOKED, "stolen")
    device = power_on(house, tpm, Disk())
    device.run_until(device.now + HOUR / 10)
    assert device.machine.phase(device.now) is d.Phase.ENROLLING
    reasons = {event.details["reason"] for event in events_of(house.db, "enrollment.refused")}
    assert reasons == {"device_revoked"}


def test_an_expired_device_recovers_by_chip_and_good_evidence(
    house: House, tpm: TpmKeyStore, chip: Swtpm
) -> None:
    ship(house, tpm)
    boot(chip, tpm)
    disk = Disk()
    power_on(house, tpm, disk)
    house.clock.advance(30 * HOUR)
    device = power_on(house, tpm, disk)
    assert device.machine.phase(device.now) is d.Phase.ENROLLED
    assert house.tls.peer is None
    assert [event.details["lane"] for event in events_of(house.db, "enrollment.completed")] == [
        "tpm-enroll", "tpm-recover",
    ]  # fmt: skip
    with house.db.read() as tx:
        assert devices.get_device(tx, "cam-1").state is DeviceState.ACTIVE


def test_an_expired_device_that_runs_something_else_does_not_recover(
    house: House, tpm: TpmKeyStore, chip: Swtpm
) -> None:
    ship(house, tpm)
    boot(chip, tpm, EVIL_LOG)
    disk = Disk()
    power_on(house, tpm, disk)
    house.clock.advance(30 * HOUR)
    device = power_on(house, tpm, disk, EVIL_LOG)
    assert device.machine.phase(device.now) is d.Phase.EXPIRED
    [refused] = events_of(house.db, "enrollment.refused")
    assert refused.details["reason"] == "attestation_failed"
    assert events_of(house.db, "attestation.failed")


def test_a_device_that_lost_its_memory_needs_good_evidence_too(
    house: House, tpm: TpmKeyStore, chip: Swtpm
) -> None:
    ship(house, tpm)
    boot(chip, tpm)
    power_on(house, tpm, Disk())
    device = power_on(house, tpm, Disk())
    assert device.machine.phase(device.now) is d.Phase.ENROLLED
    boot(chip, tpm, EVIL_LOG)
    device = power_on(house, tpm, Disk(), EVIL_LOG)
    assert device.machine.phase(device.now) is d.Phase.ENROLLING


def test_a_device_whose_last_attestation_failed_is_not_renewed(
    house: House, tpm: TpmKeyStore, chip: Swtpm
) -> None:
    ship(house, tpm)
    boot(chip, tpm, EVIL_LOG)
    device = power_on(house, tpm, Disk())
    with house.db.write("device:cam-1") as tx:
        nonce = attestation.issue_nonce(tx, "cam-1").value
        evidence = make_evidence(tpm, nonce, EVIL_LOG)
        assert not attestation.appraise(tx, "cam-1", parse_evidence(evidence)).good
    house.clock.advance(15 * HOUR)
    device.run_until(house.clock.now())
    assert device.in_use == "device-1"
    assert events_of(house.db, "enrollment.refused")[-1].details["reason"] == "attestation_failed"


@dataclass
class Talk:
    """One exchange by hand, so that each part can be spoiled."""

    house: House
    tpm: TpmKeyStore

    def begin(self, **changes: Any) -> Any:
        request = enroll.TpmBegin(
            "cam-1", enroll.Purpose.ENROLL, tuple(self.tpm.ek_certificate_chain()), self.tpm.ak_public()
        )
        body = enroll.render(msgspec.structs.replace(request, **changes))
        return self.house.client.post(enroll.PATH, content=body)

    def challenge(self) -> enroll.TpmChallenge:
        return enroll.parse_challenge(self.begin().content)

    def proof(self, challenge: enroll.TpmChallenge, label: str = "k") -> enroll.TpmFinish:
        key = self.tpm.find_key(label) or self.tpm.create_key(label)
        secret = self.tpm.activate_credential(challenge.credential_blob, challenge.encrypted_secret)
        info, signature = self.tpm.certify_key(label, challenge.nonce)
        return enroll.TpmFinish(secret, key.sign_csr("cam-1"), info, signature)

    def finish(self, challenge_id: str, proof: enroll.TpmFinish) -> Any:
        return self.house.client.post(f"{enroll.PATH}/{challenge_id}", content=msgspec.json.encode(proof))


@pytest.fixture
def talk(house: House, tpm: TpmKeyStore) -> Talk:
    ship(house, tpm)
    return Talk(house, tpm)


def test_a_key_outside_the_chip_is_not_certified(talk: Talk) -> None:
    challenge = talk.challenge()
    proof = talk.proof(challenge)
    own = sign_csr(ec.generate_private_key(ec.SECP256R1()), "cam-1")
    answer = talk.finish(challenge.challenge_id, msgspec.structs.replace(proof, csr=own))
    assert (answer.status_code, answer.json()["reason"]) == (403, "certify_other_key")


def test_another_secret_is_refused(talk: Talk) -> None:
    challenge = talk.challenge()
    proof = msgspec.structs.replace(talk.proof(challenge), secret=b"\0" * 32)
    answer = talk.finish(challenge.challenge_id, proof)
    assert (answer.status_code, answer.json()["reason"]) == (403, "challenge_failed")


def test_a_certification_over_an_older_nonce_is_refused(talk: Talk) -> None:
    older, newer = talk.challenge(), talk.challenge()
    stale, fresh = talk.proof(older), talk.proof(newer)
    mixed = msgspec.structs.replace(
        fresh, certify_info=stale.certify_info, certify_signature=stale.certify_signature
    )
    answer = talk.finish(newer.challenge_id, mixed)
    assert (answer.status_code, answer.json()["reason"]) == (403, "certify_stale")


def test_a_challenge_serves_once(talk: Talk) -> None:
    challenge = talk.challenge()
    proof = talk.proof(challenge)
    assert talk.finish(challenge.challenge_id, proof).status_code == 200
    answer = talk.finish(challenge.challenge_id, proof)
    assert (answer.status_code, answer.json()["reason"]) == (403, "challenge_stale")


def test_a_challenge_runs_out(talk: Talk) -> None:
    challenge = talk.challenge()
    proof = talk.proof(challenge)
    talk.house.clock.advance(timedelta(minutes=6))
    assert talk.finish(challenge.challenge_id, proof).json()["reason"] == "challenge_stale"


def test_a_request_in_anothers_name_is_refused(talk: Talk) -> None:
    challenge = talk.challenge()
    proof = talk.proof(challenge)
    other = talk.tpm.open_key("k").sign_csr("cam-2")
    answer = talk.finish(challenge.challenge_id, msgspec.structs.replace(proof, csr=other))
    assert (answer.status_code, answer.json()["reason"]) == (400, "name")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"purpose": enroll.Purpose.RENEW}, 401, None),
        ({"purpose": enroll.Purpose.RECOVER}, 403, "ak_unknown"),
        ({"claim": "a-guess"}, 401, "unknown"),
        ({"device_id": "cam-2"}, 403, "chip_unknown"),
        ({"device_id": "a/b"}, 400, None),
        ({"ek_certificate_chain": (b"junk",)}, 403, "ek_malformed"),
        ({"ak_public": b"junk"}, 400, None),
    ],
)
def test_a_bad_beginning_is_refused(
    talk: Talk, changes: dict[str, Any], status: int, reason: str | None
) -> None:
    answer = talk.begin(**changes)
    assert answer.status_code == status, answer.text
    if reason is not None:
        assert answer.json()["reason"] == reason
    assert len(events_of(talk.house.db, "enrollment.refused")) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[" * 50_000, b'{"device_id":' * 10_000, b"\xff\xfe", b"null", b'{"purpose": 1e9}'],
)
def test_junk_is_a_clear_400_at_both_ends(talk: Talk, body: bytes) -> None:
    challenge = talk.challenge()
    for path in (enroll.PATH, f"{enroll.PATH}/{challenge.challenge_id}", f"{enroll.PATH}/nobody"):
        answer = talk.house.client.post(path, content=body)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
    assert talk.finish(challenge.challenge_id, talk.proof(challenge)).status_code == 200


def test_est_does_not_lower_a_chips_tier(talk: Talk) -> None:
    challenge = talk.challenge()
    issued = enroll.parse_issued(talk.finish(challenge.challenge_id, talk.proof(challenge)).content)
    talk.house.tls.peer = x509.load_der_x509_certificate(issued.certificate_chain[0])
    body = est.render_csr(sign_csr(ec.generate_private_key(ec.SECP256R1()), "cam-1"))
    answer = talk.house.client.post(f"{est.PATH}/simplereenroll", content=body)
    assert (answer.status_code, answer.json()["reason"]) == (409, "lower_tier")
    [event] = events_of(talk.house.db, "enrollment.refused")
    assert event.device == "cam-1"


def test_a_stranger_who_knows_the_chip_cannot_push_out_its_challenges_for_long(talk: Talk) -> None:
    statuses = {talk.begin().status_code for _ in range(40)}
    assert statuses == {200, 429}
