"""A small fleet whose devices are brought into each situation by the services that bring real ones there."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from fleetward.base.clock import render_time
from fleetward.base.db import Database
from fleetward.base.events import Severity
from fleetward.features.attestation import store as appraisals
from fleetward.features.attestation.model import Appraisal, Reason, ReasonCode
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, KeyTier, Model
from fleetward.features.messaging import service as messaging
from fleetward.features.messaging.intake.tell import Told, tell
from fleetward.features.messaging.model import Presence
from fleetward.features.messaging.service.reports import record_firmware
from fleetward.features.overview.model.situation import Answer, Question
from fleetward.features.overview.service.why import explain_device
from fleetward.features.pki import service as pki
from fleetward.features.pki.service import PkiContext
from fleetward.wire.shadow import Reported
from support.broker import record_appraisal
from support.clock import ManualClock
from support.hierarchy import make_csr, make_pki
from support.updates import Publisher, make_publisher

HOUR = timedelta(hours=1)
CAMERA, SENSOR = "camera", "sensor"


@dataclass
class Fleet:
    """`camera` demands attestation, `sensor` does not; firmware is published through `publisher`."""

    db: Database
    clock: ManualClock
    authority: PkiContext
    publisher: Publisher

    def add(self, device: str, model: str = SENSOR, *, group: str = "default") -> None:
        with self.db.write("operator:test") as tx:
            devices.register(tx, device, model, group=group)

    def enroll(self, device: str, model: str = SENSOR, *, group: str = "default") -> None:
        """Register a device that is new, and issue it a certificate for 24 hours."""
        with self.db.write(f"device:{device}") as tx:
            if devices.find_device(tx, device) is None:
                devices.register(tx, device, model, group=group)
            pki.issue_device_certificate(tx, self.authority, device, make_csr(device), 24 * HOUR)
            devices.record_enrollment(tx, device, KeyTier.SOFTWARE)

    def attest(self, device: str, lifetime: timedelta = HOUR) -> None:
        with self.db.write(f"device:{device}") as tx:
            record_appraisal(tx, device, lifetime)

    def fail_attestation(self, device: str, code: ReasonCode, message: str) -> None:
        with self.db.write(f"device:{device}") as tx:
            reason = Reason(code, message)
            verdict = Appraisal(device, tx.now, good=False, expires_at=tx.now, reasons=(reason,))
            appraisals.insert_appraisal(tx, verdict, keep=50)

    def report_firmware(self, device: str, **section: Any) -> None:
        """Take in what the device's shadow says of its firmware, as ingest does."""
        with self.db.write("system:messaging") as tx:
            version = messaging.get_shadow(tx, device).reported_version + 1
            reported = Reported(version, {"firmware": section})
            shadow = messaging.record_reported(tx, device, [(reported, tx.now)])
            assert shadow is not None
            record_firmware(tx, shadow)

    def tell(self, device: str, event: str, message: str, severity: str = "warning") -> None:
        """Take in a log line of the device that becomes an event."""
        text = f"Device {device} says: {message}"
        with self.db.write("system:messaging") as tx:
            tell(tx, [Told(device, event, Severity(severity), text, {}, "", "")])

    def connected(self, device: str) -> Presence:
        return Presence(device, is_connected=True, since=render_time(self.clock.now()), address="10.0.0.7")

    def gone(self, device: str, reason: str = "keep alive timeout") -> Presence:
        return Presence(device, since=render_time(self.clock.now()), reason=reason)

    def why(self, device: str, presence: Presence | None = None) -> dict[Question, Answer]:
        with self.db.read() as tx:
            found = explain_device(tx, device, presence)
        return {one.question: one for one in found}


def make_fleet(folder: Path, db: Database, clock: ManualClock) -> Fleet:
    """Make authorities, an update repository and the two models."""
    publisher = make_publisher(folder, db, SENSOR)
    with db.write("operator:test") as tx:
        devices.add_model(tx, Model(CAMERA, attestation=AttestationPolicy.REQUIRED))
    return Fleet(db, clock, make_pki(folder, clock.now()), publisher)
