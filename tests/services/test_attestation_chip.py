"""From chip to verdict with a real (software) TPM; the server's side knows no TSS."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from fleetward.base.db import Database
from fleetward.base.events import list_events
from fleetward.features.attestation import service
from fleetward.features.attestation.device import make_evidence
from fleetward.features.attestation.model import (
    Appraisal,
    ChipRefusedError,
    EvidenceRefusedError,
    ReferenceValues,
)
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import DeviceState, KeyTier, Model
from fleetward.outside.keys.tpm import ChallengeRefusedError, TpmKeyStore
from fleetward.wire.event_log import LogEntry, Measured, make_entry
from fleetward.wire.evidence import parse_evidence
from support.clock import ManualClock
from support.swtpm import Swtpm, running_swtpm

BOOT, KEYS, IMAGE, MANIFEST = (
    hashlib.sha256(name).digest() for name in (b"boot", b"keys", b"image", b"manifest")
)
LOG = (
    make_entry(0, Measured.BOOT_STAGE, BOOT),
    make_entry(1, Measured.PINNED_KEYS, KEYS),
    make_entry(2, Measured.IMAGE, IMAGE, version="1.0.0"),
    make_entry(3, Measured.MANIFEST, MANIFEST, version="1.0.0"),
)


@dataclass
class Bench:
    db: Database
    chip: Swtpm
    tpm: TpmKeyStore
    clock: ManualClock

    def boot(self, log: tuple[LogEntry, ...] = LOG) -> None:
        self.chip.power_cycle()
        for entry in log:
            self.tpm.extend_pcr(entry.pcr, entry.digest)

    def activate(self, device: str = "cam-1") -> None:
        with self.db.write("device:cam-1") as tx:
            challenge = service.begin_activation(tx, device, self.chain, self.tpm.ak_public())
        secret = self.tpm.activate_credential(challenge.credential_blob, challenge.encrypted_secret)
        with self.db.write("device:cam-1") as tx:
            service.bind_key(tx, service.finish_activation(tx, challenge.id, secret).key)

    @property
    def chain(self) -> list[bytes]:
        return self.tpm.ek_certificate_chain()

    def nonce(self) -> bytes:
        with self.db.write("device:cam-1") as tx:
            return service.issue_nonce(tx, "cam-1").value

    def appraise(self, evidence: bytes) -> Appraisal:
        with self.db.write("device:cam-1") as tx:
            return service.appraise(tx, "cam-1", parse_evidence(evidence))

    def attest(self, log: tuple[LogEntry, ...] = LOG) -> Appraisal:
        return self.appraise(make_evidence(self.tpm, self.nonce(), log))


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    with running_swtpm(tmp_path_factory.mktemp("chip")) as started:
        yield started


@pytest.fixture
def bench(db: Database, chip: Swtpm, tmp_path: Path, clock: ManualClock) -> Bench:
    clock.set(clock.now() + timedelta(days=200))  # the chip was certified today
    with db.write("operator:a") as tx:
        service.add_ek_anchors(tx, chip.vendor_root.read_bytes() + chip.vendor_issuer.read_bytes())
        devices.add_model(tx, Model("cam"))
        devices.register(tx, "cam-1", "cam")
        devices.record_enrollment(tx, "cam-1", KeyTier.TPM)
        service.add_boot_reference(tx, Measured.BOOT_STAGE, BOOT.hex(), "1")
        service.add_boot_reference(tx, Measured.PINNED_KEYS, KEYS.hex(), "1")
        service.add_reference(tx, "cam", "1.0.0", ReferenceValues(IMAGE.hex(), MANIFEST.hex()))
    return Bench(db, chip, TpmKeyStore(chip.tcti, tmp_path / "keys"), clock)


def codes(verdict: Appraisal) -> list[str]:
    return [reason.code for reason in verdict.reasons]


def test_a_device_that_booted_what_it_should_becomes_active(bench: Bench) -> None:
    bench.activate()
    bench.boot()
    verdict = bench.attest()
    assert (verdict.good, verdict.reasons, verdict.firmware_version) == (True, (), "1.0.0")
    assert verdict.expires_at == bench.clock.now() + timedelta(hours=6)
    with bench.db.read() as tx:
        assert devices.get_device(tx, "cam-1").state is DeviceState.ACTIVE
        assert service.find_appraisal(tx, "cam-1") == verdict


def test_another_image_fails_and_is_told(bench: Bench) -> None:
    bench.activate()
    evil = (*LOG[:2], make_entry(2, Measured.IMAGE, b"\6" * 32), LOG[3])
    bench.boot(evil)
    verdict = bench.attest(evil)
    assert codes(verdict) == ["unknown_firmware_image"]
    with bench.db.read() as tx:
        failed = [event for event in list_events(tx, device="cam-1") if event.kind == "attestation.failed"]
        assert failed[0].severity == "critical"
        assert devices.get_device(tx, "cam-1").state is DeviceState.ENROLLED


def test_a_log_that_tells_another_story_than_the_chip_fails(bench: Bench) -> None:
    bench.activate()
    bench.boot((*LOG[:2], make_entry(2, Measured.IMAGE, b"\6" * 32), LOG[3]))
    assert codes(bench.attest(LOG)) == ["log_mismatch"]


def test_a_device_that_skipped_the_boot_stage_fails(bench: Bench) -> None:
    bench.activate()
    bench.chip.power_cycle()
    assert codes(bench.attest(())) == [
        "missing_boot_stage", "missing_pinned_keys", "missing_firmware_image", "missing_firmware_manifest",
    ]  # fmt: skip


def test_a_withdrawn_release_no_longer_passes(bench: Bench) -> None:
    bench.activate()
    bench.boot()
    with bench.db.write("operator:a") as tx:
        service.withdraw_reference(tx, "cam", "1.0.0")
    assert codes(bench.attest()) == ["withdrawn_firmware_image", "withdrawn_firmware_manifest"]


def test_evidence_is_good_once(bench: Bench) -> None:
    bench.activate()
    bench.boot()
    evidence = make_evidence(bench.tpm, bench.nonce(), LOG)
    verdict = bench.appraise(evidence)
    assert verdict.good
    with pytest.raises(EvidenceRefusedError, match="nonce"):
        bench.appraise(evidence)
    with bench.db.read() as tx:
        assert service.find_appraisal(tx, "cam-1") == verdict


def test_a_nonce_runs_out(bench: Bench) -> None:
    bench.activate()
    bench.boot()
    evidence = make_evidence(bench.tpm, bench.nonce(), LOG)
    bench.clock.advance(timedelta(minutes=3))
    with pytest.raises(EvidenceRefusedError, match="nonce"):
        bench.appraise(evidence)


def test_altered_evidence_fails(bench: Bench) -> None:
    bench.activate()
    bench.boot()
    evidence = parse_evidence(make_evidence(bench.tpm, bench.nonce(), LOG))
    with bench.db.write("t") as tx:
        other = changed(evidence, pcrs={"8": "00" * 32, "9": evidence.pcrs["9"]})
        assert codes(service.appraise(tx, "cam-1", other)) == ["pcr_mismatch"]
        nonce = service.issue_nonce(tx, "cam-1").value
    again = parse_evidence(make_evidence(bench.tpm, nonce, LOG))
    with bench.db.write("t") as tx:
        broken = changed(again, quote=again.quote[:-1] + bytes([again.quote[-1] ^ 1]))
        assert codes(service.appraise(tx, "cam-1", broken)) == ["quote_signature"]


def test_a_device_without_an_activated_key_cannot_pass(bench: Bench) -> None:
    bench.boot()
    assert codes(bench.attest()) == ["no_attestation_key"]


def test_the_chip_proves_where_its_keys_live(bench: Bench) -> None:
    bench.activate()
    key, nonce = bench.tpm.create_key("device-1"), b"n" * 32
    other = bench.tpm.create_key("device-2")
    info, signature = bench.tpm.certify_key("device-1", nonce)
    with bench.db.read() as tx:
        ak = service.find_attestation_key(tx, "cam-1")
    assert ak
    service.verify_key_certification(ak, key.public_key, info, signature, nonce)
    with pytest.raises(ChipRefusedError, match="request"):
        service.verify_key_certification(ak, other.public_key, info, signature, nonce)
    with pytest.raises(ChipRefusedError, match="nonce"):
        service.verify_key_certification(ak, key.public_key, info, signature, b"m" * 32)
    with pytest.raises(ChipRefusedError, match="signature"):
        service.verify_key_certification(
            ak, key.public_key, info, signature[:-1] + bytes([signature[-1] ^ 1]), nonce
        )


def test_a_chip_of_an_unknown_vendor_is_refused(bench: Bench, tmp_path: Path) -> None:
    with running_swtpm(tmp_path / "other") as other:
        stranger = TpmKeyStore(other.tcti, tmp_path / "stranger")
        with pytest.raises(ChipRefusedError, match="vendor"), bench.db.write("t") as tx:
            service.begin_activation(tx, "cam-1", stranger.ek_certificate_chain(), stranger.ak_public())


def test_a_challenge_opens_only_in_its_chip_and_once(bench: Bench, tmp_path: Path) -> None:
    with bench.db.write("t") as tx:
        challenge = service.begin_activation(tx, "cam-1", bench.chain, bench.tpm.ak_public())
    with running_swtpm(tmp_path / "other") as other, pytest.raises(ChallengeRefusedError):
        TpmKeyStore(other.tcti, tmp_path / "k").activate_credential(
            challenge.credential_blob, challenge.encrypted_secret
        )
    with pytest.raises(ChipRefusedError, match="secret"), bench.db.write("t") as tx:
        service.finish_activation(tx, challenge.id, b"guess")
    secret = bench.tpm.activate_credential(challenge.credential_blob, challenge.encrypted_secret)
    with bench.db.write("t") as tx:
        service.finish_activation(tx, challenge.id, secret)
    with pytest.raises(ChipRefusedError, match="used"), bench.db.write("t") as tx:
        service.finish_activation(tx, challenge.id, secret)


def test_a_device_key_is_no_attestation_key(bench: Bench) -> None:
    bench.tpm.create_key("device-1")
    public = (bench.tpm._folder / "device-1.tpm").read_bytes()
    area = public[: 2 + int.from_bytes(public[:2], "big")]
    with pytest.raises(ChipRefusedError, match="restricted"), bench.db.write("t") as tx:
        service.begin_activation(tx, "cam-1", bench.chain, area)
