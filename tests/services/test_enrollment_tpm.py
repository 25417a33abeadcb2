"""The TPM lane from chip to certificate: the device's machine and a (software) TPM against our routes."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from fleetward.features.attestation import service as attestation
from fleetward.features.attestation.device import make_evidence
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import (
    DeviceState,
    HardwareKind,
    KeyTier,
)
from fleetward.features.enrollment import device as d
from fleetward.features.enrollment import service
from fleetward.outside.keys.tpm import TpmKeyStore
from fleetward.wire.evidence import parse_evidence
from support.chip_house import EVIL_LOG, HOUR, House, boot, chip_house, power_on, ship, tier_of
from support.enrolling import Disk
from support.enrollment import events_of
from support.swtpm import Swtpm, running_swtpm


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    with running_swtpm(tmp_path_factory.mktemp("chip")) as started:
        yield started


@pytest.fixture
def tpm(chip: Swtpm, tmp_path: Path) -> TpmKeyStore:
    return TpmKeyStore(chip.tcti, tmp_path / "blobs")


@pytest.fixture
def house(chip: Swtpm, tmp_path: Path) -> Iterator[House]:
    with chip_house(chip, tmp_path) as made:
        yield made


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
