"""What attestation remembers, bounds, tells and forgets; the chip is on paper here."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace as changed

from fleetward.base.db import Database
from fleetward.base.errors import InvalidInputError, NotFoundError, RateLimitedError
from fleetward.base.events import Event, list_events
from fleetward.features.attestation import service
from fleetward.features.attestation.model import (
    Appraisal,
    AttestationKey,
    ChipRefusedError,
    EvidenceRefusedError,
    ReferenceValues,
)
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import DeviceState, KeyTier, Model
from fleetward.wire.event_log import LogEntry, Measured
from support.clock import ManualClock
from support.paper_tpm import DIGESTS, PaperTpm, make_log
from support.tpm_vendor import Authority, der_of, ek_extensions

CHIP, OTHER = PaperTpm(), PaperTpm()
BOOT, KEYS, IMAGE, MANIFEST = (digest.hex() for digest in DIGESTS.values())
ROOT = Authority("Vendor Root")
ISSUER = Authority("Vendor Issuer", ROOT)
EK = ec.generate_private_key(ec.SECP256R1()).public_key()
CHAIN = [der_of(ISSUER.sign(EK, ek_extensions(EK))), ISSUER.der]
Attest = Callable[..., Appraisal]


@pytest.fixture
def fleet(db: Database) -> Database:
    """A platform with cam-1 and cam-2, whose chips are known, and sw-1, which has none."""
    with db.write("operator:a") as tx:
        service.add_ek_anchors(tx, ROOT.pem)
        devices.add_model(tx, Model("cam"))
        for device, tier in (("cam-1", KeyTier.TPM), ("cam-2", KeyTier.TPM), ("sw-1", KeyTier.SOFTWARE)):
            devices.register(tx, device, "cam")
            devices.record_enrollment(tx, device, tier)
        service.bind_key(tx, AttestationKey("cam-1", "1" * 64, CHIP.ak_public, tx.now))
        service.bind_key(tx, AttestationKey("cam-2", "2" * 64, OTHER.ak_public, tx.now))
        service.add_boot_reference(tx, Measured.BOOT_STAGE, BOOT, "0.1.0")
        service.add_boot_reference(tx, Measured.PINNED_KEYS, KEYS, "")
        service.add_reference(tx, "cam", "1.0.0", ReferenceValues(IMAGE, MANIFEST))
    return db


@pytest.fixture
def attest(fleet: Database) -> Attest:
    def run(
        device: str = "cam-1", chip: PaperTpm = CHIP, log: tuple[LogEntry, ...] | None = None
    ) -> Appraisal:
        with fleet.write(f"device:{device}") as tx:
            nonce = service.issue_nonce(tx, device).value
            return service.appraise(tx, device, chip.evidence(nonce, log))

    return run


def codes(verdict: Appraisal) -> list[str]:
    return [reason.code.value for reason in verdict.reasons]


def told(db: Database, device: str) -> list[Event]:
    with db.read() as tx:
        found = list_events(tx, device=device)
    return [event for event in found if event.kind.startswith("attestation.")]


def test_a_good_verdict_makes_the_device_active_and_its_firmware_known(
    fleet: Database, attest: Attest
) -> None:
    assert attest().good
    with fleet.read() as tx:
        device = devices.get_device(tx, "cam-1")
        actions = [entry.action for entry, _ in audit.search(tx, subject="device:cam-1")]
    assert (device.state, device.firmware_version) == (DeviceState.ACTIVE, "1.0.0")
    assert "attestation.appraised" in actions
    assert [(event.kind, event.severity.value) for event in told(fleet, "cam-1")] == [
        ("attestation.appraised", "info")
    ]


def test_a_quarantined_device_stays_so_however_good_its_evidence(fleet: Database, attest: Attest) -> None:
    attest()
    with fleet.write("operator:a") as tx:
        devices.transition(tx, "cam-1", DeviceState.QUARANTINED, "suspicious")
    assert attest().good
    with fleet.read() as tx:
        assert devices.get_device(tx, "cam-1").state is DeviceState.QUARANTINED


def test_a_bad_verdict_replaces_a_good_one_until_the_next(fleet: Database, attest: Attest) -> None:
    attest()
    assert codes(attest(log=make_log(firmware_image=b"\6" * 32))) == ["unknown_firmware_image"]
    with fleet.read() as tx:
        latest = service.find_appraisal(tx, "cam-1")
    assert latest
    assert not latest.good
    last = told(fleet, "cam-1")[-1]
    assert (last.kind, last.severity.value) == ("attestation.failed", "critical")
    assert last.details["reasons"] == ["unknown_firmware_image"]
    assert attest().good


def test_another_devices_chip_cannot_speak_for_this_one(attest: Attest) -> None:
    assert codes(attest("cam-1", OTHER)) == ["quote_signature"]


def test_a_device_without_a_chip_is_refused_by_the_reason(fleet: Database, attest: Attest) -> None:
    verdict = attest("sw-1")
    assert codes(verdict) == ["no_attestation_key"]
    assert "software" in verdict.reasons[0].message
    with fleet.read() as tx:
        assert devices.get_device(tx, "sw-1").state is DeviceState.ENROLLED


def test_a_nonce_is_its_devices_own(fleet: Database) -> None:
    with fleet.write("device:cam-2") as tx:
        nonce = service.issue_nonce(tx, "cam-2").value
    with pytest.raises(EvidenceRefusedError), fleet.write("device:cam-1") as tx:
        service.appraise(tx, "cam-1", CHIP.evidence(nonce))


def test_old_evidence_costs_nobody_their_good_verdict(
    fleet: Database, attest: Attest, clock: ManualClock
) -> None:
    verdict = attest()
    with fleet.write("device:cam-1") as tx:
        stale = CHIP.evidence(service.issue_nonce(tx, "cam-1").value)
    clock.advance(timedelta(minutes=2))
    with pytest.raises(EvidenceRefusedError), fleet.write("device:cam-1") as tx:
        service.appraise(tx, "cam-1", stale)
    with fleet.read() as tx:
        assert service.find_appraisal(tx, "cam-1") == verdict


def test_of_open_nonces_the_last_four_count(fleet: Database, clock: ManualClock) -> None:
    issued = []
    for _ in range(5):
        clock.advance(timedelta(seconds=1))
        with fleet.write("device:cam-1") as tx:
            issued.append(service.issue_nonce(tx, "cam-1").value)
    first, *rest = issued
    with fleet.write("device:cam-1") as tx:
        with pytest.raises(EvidenceRefusedError):
            service.appraise(tx, "cam-1", CHIP.evidence(first))
        assert all(service.appraise(tx, "cam-1", CHIP.evidence(nonce)).good for nonce in rest)


def test_a_device_may_not_flood_us_with_evidence(attest: Attest, clock: ManualClock) -> None:
    for _ in range(12):
        attest()
    with pytest.raises(RateLimitedError) as refused:
        attest()
    assert refused.value.details["retry_after_s"] == 60
    clock.advance(timedelta(seconds=61))
    assert attest().good


def test_a_refusal_is_a_warning_with_its_reason_and_the_count_of_equal_ones(fleet: Database) -> None:
    with fleet.write("device:cam-1") as tx:
        service.record_refusal(tx, "cam-1", EvidenceRefusedError("old", reason="quote_stale"), repeats=4)
        service.record_refusal(tx, "cam-1", InvalidInputError("junk"), repeats=0)
    found = [(one.severity.value, one.details) for one in told(fleet, "cam-1")]
    assert found == [
        ("warning", {"reasons": ["quote_stale"], "repeats": 4}),
        ("warning", {"reasons": ["invalid_input"], "repeats": 0}),
    ]


def test_the_last_fifty_verdicts_are_kept(fleet: Database, attest: Attest, clock: ManualClock) -> None:
    for _ in range(55):
        attest()
        clock.advance(timedelta(seconds=10))
    attest("cam-2", OTHER)
    with fleet.read() as tx:
        kept = service.list_appraisals(tx, "cam-1")
        assert len(kept) == 50
        assert kept[0].at - kept[-1].at == timedelta(seconds=490)
        assert len(service.list_appraisals(tx, "cam-2")) == 1


def test_a_malformed_quote_changes_nothing(fleet: Database) -> None:
    with fleet.write("device:cam-1") as tx:
        evidence = CHIP.evidence(service.issue_nonce(tx, "cam-1").value)
    with pytest.raises(InvalidInputError), fleet.write("device:cam-1") as tx:
        service.appraise(tx, "cam-1", changed(evidence, signature=b"junk"))
    with fleet.write("device:cam-1") as tx:
        assert service.appraise(tx, "cam-1", evidence).good


def test_the_same_release_twice_is_one(fleet: Database) -> None:
    with fleet.write("operator:a") as tx:
        before = service.list_references(tx, "cam")
        service.add_reference(tx, "cam", "1.0.0", ReferenceValues(IMAGE, MANIFEST))
        assert service.list_references(tx, "cam") == before


def test_a_release_is_withdrawn_for_its_model_alone(fleet: Database, attest: Attest) -> None:
    with fleet.write("operator:a") as tx:
        devices.add_model(tx, Model("door"))
        service.add_reference(tx, "door", "1.0.0", ReferenceValues(IMAGE, MANIFEST))
        service.add_boot_reference(tx, Measured.BOOT_STAGE, "ab" * 32, "1.0.0", model_id="cam")
        service.withdraw_reference(tx, "cam", "1.0.0")
        known = service.list_references(tx, "cam") + service.list_references(tx, "door")
    withdrawn = {(one.model, one.kind) for one in known if one.withdrawn_at is not None}
    assert withdrawn == {("cam", Measured.IMAGE), ("cam", Measured.MANIFEST)}
    assert codes(attest()) == ["withdrawn_firmware_image", "withdrawn_firmware_manifest"]


def test_a_withdrawn_boot_stage_stays_so_under_any_version(fleet: Database, attest: Attest) -> None:
    with fleet.write("operator:a") as tx:
        service.withdraw_digest(tx, "*", BOOT)
        assert service.add_boot_reference(tx, Measured.BOOT_STAGE, BOOT, "0.2.0").withdrawn_at
    assert codes(attest()) == ["withdrawn_boot_stage"]


def test_only_what_is_known_can_be_withdrawn(fleet: Database) -> None:
    with fleet.write("operator:a") as tx:
        with pytest.raises(NotFoundError):
            service.withdraw_reference(tx, "cam", "9.9.9")
        with pytest.raises(NotFoundError):
            service.withdraw_digest(tx, "cam", BOOT)
        with pytest.raises(NotFoundError):
            service.withdraw_ek_anchor(tx, "0" * 64)


@pytest.mark.parametrize(
    ("kind", "digest"),
    [(Measured.IMAGE, "ab" * 32), (Measured.BOOT_STAGE, "AB" * 32), (Measured.BOOT_STAGE, "ab")],
)
def test_a_reference_of_another_form_is_refused(fleet: Database, kind: Measured, digest: str) -> None:
    with pytest.raises(InvalidInputError), fleet.write("operator:a") as tx:
        service.add_boot_reference(tx, kind, digest, "1")


def test_a_reference_needs_its_model(fleet: Database) -> None:
    with fleet.write("operator:a") as tx:
        with pytest.raises(NotFoundError):
            service.add_boot_reference(tx, Measured.BOOT_STAGE, BOOT, "1", model_id="unknown")
        with pytest.raises(NotFoundError):
            service.add_reference(tx, "unknown", "1.0.0", ReferenceValues(IMAGE, MANIFEST))


@pytest.mark.parametrize(
    "pem",
    [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b" " * 300_000],
)
def test_what_is_no_authority_is_no_vendor(fleet: Database, pem: bytes) -> None:
    with pytest.raises(InvalidInputError), fleet.write("operator:a") as tx:
        service.add_ek_anchors(tx, pem)


def test_an_endorsement_key_is_no_vendor(fleet: Database) -> None:
    leaf = Authority("Leaf", ROOT, ek_extensions(EK))
    with pytest.raises(InvalidInputError, match="authorities"), fleet.write("operator:a") as tx:
        service.add_ek_anchors(tx, leaf.pem)


def test_a_vendor_is_trusted_once_and_until_withdrawn(fleet: Database) -> None:
    with fleet.write("operator:a") as tx:
        assert service.add_ek_anchors(tx, ROOT.pem + ISSUER.pem) == 1
        challenge = service.begin_activation(tx, "cam-1", CHAIN[:1], CHIP.ak_public)
        assert challenge.expires_at == tx.now + timedelta(minutes=5)
        for one in service.list_ek_anchors(tx):
            service.withdraw_ek_anchor(tx, one.fingerprint(hashes.SHA256()).hex())
        with pytest.raises(ChipRefusedError, match="vendor"):
            service.begin_activation(tx, "cam-1", CHAIN, CHIP.ak_public)


def test_of_open_challenges_the_last_four_count(fleet: Database, clock: ManualClock) -> None:
    opened = []
    for _ in range(6):
        clock.advance(timedelta(seconds=1))
        with fleet.write("device:cam-1") as tx:
            opened.append(service.begin_activation(tx, "cam-1", CHAIN, CHIP.ak_public).id)
            service.begin_activation(tx, "cam-2", CHAIN, CHIP.ak_public)
    reasons = []
    for one in opened:
        with pytest.raises(ChipRefusedError) as refused, fleet.write("device:cam-1") as tx:
            service.finish_activation(tx, one, b"guess")
        reasons.append(refused.value.details["reason"])
    assert reasons == ["challenge_stale"] * 2 + ["challenge_failed"] * 4


def test_a_challenge_runs_out_and_is_forgotten(fleet: Database, clock: ManualClock) -> None:
    with fleet.write("device:cam-1") as tx:
        challenge = service.begin_activation(tx, "cam-1", CHAIN, CHIP.ak_public)
        service.issue_nonce(tx, "cam-1")
    clock.advance(timedelta(minutes=5))
    with pytest.raises(ChipRefusedError, match="expired"), fleet.write("device:cam-1") as tx:
        service.finish_activation(tx, challenge.id, b"guess")
    with fleet.write("system:timer") as tx:
        assert service.forget_expired(tx) == 2
