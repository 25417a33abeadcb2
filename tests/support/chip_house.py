"""A platform that asks for a chip, a device with one, and the exchange between them by hand."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.clock import SystemClock
from fleetward.base.db import Database
from fleetward.features.attestation import service as attestation
from fleetward.features.attestation.device import make_evidence
from fleetward.features.attestation.model import ReferenceValues
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import (
    AttestationPolicy,
    HardwareIdentity,
    HardwareKind,
    KeyTier,
)
from fleetward.features.enrollment import device as d
from fleetward.features.enrollment.model import fingerprint_of
from fleetward.outside.keys.tpm import TpmKeyStore
from fleetward.wire import enroll
from fleetward.wire.event_log import LogEntry, Measured, make_entry
from support.asgi import AsgiClient
from support.clock import ManualClock
from support.enrolling import Device, Disk
from support.enrollment import WithPeer, add_model, make_app, make_pki, sqlite_in
from support.swtpm import Swtpm

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


@contextmanager
def chip_house(chip: Swtpm, folder: Path) -> Iterator[House]:
    """Yield a platform that trusts the maker of `chip`."""
    clock = ManualClock(SystemClock().now())  # the chip was certified today
    with sqlite_in(folder, clock) as db:
        yield furnish(db, chip, folder, clock)


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
