"""Who may hold a session, drawn from registry, certificates and appraisals, over both databases."""

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleetward.base.db import Database
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.base.events import list_events
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, DeviceState, KeyTier, Model
from fleetward.features.messaging import handlers, service
from fleetward.features.messaging.model import Hold, RefusalCode
from fleetward.features.messaging.service.admission import MAX_SERIALS
from fleetward.features.messaging.service.holds import MAX_HOLDS, MAX_REASON_CHARS
from fleetward.features.pki import service as pki
from fleetward.features.pki.model import MAX_LIVE_CERTIFICATES, DeviceCertificate
from fleetward.features.pki.service import PkiContext
from support.broker import record_appraisal
from support.clock import ManualClock
from support.hierarchy import make_csr, make_pki

HOUR = timedelta(hours=1)


@pytest.fixture
def authority(tmp_path: Path, clock: ManualClock) -> PkiContext:
    return make_pki(tmp_path, clock.now())


def enroll(db: Database, authority: PkiContext, device: str, model: str) -> DeviceCertificate:
    with db.write(f"device:{device}") as tx:
        devices.add_model(tx, Model("camera"))
        devices.add_model(tx, Model("sensor", attestation=AttestationPolicy.NONE))
        if devices.find_device(tx, device) is None:
            devices.register(tx, device, model)
        issued = pki.issue_device_certificate(tx, authority, device, make_csr(device), 24 * HOUR)
        devices.record_enrollment(tx, device, KeyTier.SOFTWARE)
        return pki.verify_device_certificate(tx, authority, issued.der, tx.now)


def appraise(db: Database, device: str, lifetime: timedelta) -> None:
    with db.write(f"device:{device}") as tx:
        record_appraisal(tx, device, lifetime)


def refusal(db: Database, certificate: DeviceCertificate, device: str | None = None) -> str:
    with db.read() as tx, pytest.raises(service.SessionRefusedError) as caught:
        service.require_session(tx, device or certificate.device_id, certificate)
    return str(caught.value.details["reason"])


def test_an_attested_device_has_a_session_until_its_appraisal_ends(
    db: Database, authority: PkiContext, clock: ManualClock
) -> None:
    certificate = enroll(db, authority, "cam-1", "camera")
    assert refusal(db, certificate) == RefusalCode.DEVICE_NOT_ACTIVE
    appraise(db, "cam-1", HOUR)
    with db.read() as tx:
        assert service.require_session(tx, "cam-1", certificate).expires_at == clock.now() + HOUR
    clock.advance(HOUR)
    assert refusal(db, certificate) == RefusalCode.APPRAISAL_EXPIRED


def test_a_revoked_certificate_gives_no_session_though_the_device_has_another(
    db: Database, authority: PkiContext
) -> None:
    old, new = (enroll(db, authority, "cam-1", "sensor") for _ in range(2))
    with db.write("operator:alice") as tx:
        pki.revoke_certificate(tx, old.serial, "superseded")
    assert refusal(db, old) == RefusalCode.CERTIFICATE_REVOKED
    with db.read() as tx:
        assert service.require_session(tx, "cam-1", new).device == "cam-1"


def test_another_devices_certificate_gives_no_session(db: Database, authority: PkiContext) -> None:
    certificate = enroll(db, authority, "cam-1", "sensor")
    assert refusal(db, certificate, "cam-2") == RefusalCode.CLIENT_ID_MISMATCH


def test_quarantine_refuses_and_release_lets_in(db: Database, authority: PkiContext) -> None:
    certificate = enroll(db, authority, "cam-1", "sensor")
    with db.write("operator:alice") as tx:
        devices.transition(tx, "cam-1", DeviceState.QUARANTINED, "odd traffic")
    assert refusal(db, certificate) == RefusalCode.DEVICE_NOT_ACTIVE
    with db.write("operator:alice") as tx:
        devices.release(tx, "cam-1", "checked")
        assert service.require_session(tx, "cam-1", certificate).device == "cam-1"


def test_a_hold_refuses_until_it_is_lifted(db: Database, authority: PkiContext, clock: ManualClock) -> None:
    certificate = enroll(db, authority, "cam-1", "sensor")
    since = clock.now()
    with db.write("system:watch") as tx:
        assert service.set_hold(tx, "cam-1", "watch", "odd traffic") == Hold("watch", "odd traffic", since)
    assert refusal(db, certificate) == RefusalCode.HELD
    clock.advance(HOUR)
    with db.write("system:watch") as tx:
        service.set_hold(tx, "cam-1", "care", "CVE-1")
        assert service.set_hold(tx, "cam-1", "watch", "odder traffic").since == since
        service.set_hold(tx, "cam-1", "watch", "odder traffic")  # changes nothing, tells nothing
        held = (Hold("care", "CVE-1", clock.now()), Hold("watch", "odder traffic", since))
        assert service.list_holds(tx, "cam-1") == held
        assert service.list_held(tx, "watch") == ["cam-1"]
        assert service.list_held(tx, "watch", after="cam-1") == []
        record = service.admission_record(tx, "cam-1")
        assert record is not None
        assert record.holds == held
        assert service.lift_hold(tx, "cam-1", "care")
        assert service.lift_hold(tx, "cam-1", "watch")
        assert not service.lift_hold(tx, "cam-1", "watch")
    with db.read() as tx:
        assert service.require_session(tx, "cam-1", certificate).device == "cam-1"
        told = [(one.kind, one.details["hold"]) for one in list_events(tx) if one.kind.startswith("hold.")]
        assert told == [
            ("hold.set", "watch"), ("hold.set", "care"), ("hold.set", "watch"),
            ("hold.lifted", "care"), ("hold.lifted", "watch"),
        ]  # fmt: skip
        kept = [
            (one.action, one.subject, one.details["hold"], one.details.get("reason"))
            for action in ("hold.set", "hold.lifted")
            for one, _ in audit.search(tx, action=action)
        ]
        assert sorted(kept, key=str) == [
            ("hold.lifted", "device:cam-1", "care", None),
            ("hold.lifted", "device:cam-1", "watch", None),
            ("hold.set", "device:cam-1", "care", "CVE-1"),
            ("hold.set", "device:cam-1", "watch", "odd traffic"),
            ("hold.set", "device:cam-1", "watch", "odder traffic"),
        ]


def test_holds_are_bounded_in_number_and_size(db: Database, authority: PkiContext) -> None:
    enroll(db, authority, "cam-1", "sensor")
    assert (MAX_HOLDS, MAX_REASON_CHARS) == (16, 200)
    with db.write("system:watch") as tx:
        for number in range(MAX_HOLDS):
            service.set_hold(tx, "cam-1", f"h-{number}", "x" * MAX_REASON_CHARS)
        service.set_hold(tx, "cam-1", "h-0", "again")
        with pytest.raises(ConflictError, match="16 holds"):
            service.set_hold(tx, "cam-1", "one-more", "x")
        for name, reason in (("a.b", "x"), ("", "x"), ("a", ""), ("a", "x" * (MAX_REASON_CHARS + 1))):
            with pytest.raises(InvalidInputError):
                service.set_hold(tx, "cam-1", name, reason)
        with pytest.raises(NotFoundError):
            service.set_hold(tx, "cam-none", "a", "x")
        assert len(service.list_holds(tx, "cam-1")) == MAX_HOLDS


def test_every_event_that_matters_draws_the_record_afresh(
    db: Database, authority: PkiContext, clock: ManualClock
) -> None:
    certificate = enroll(db, authority, "cam-1", "camera")
    appraise(db, "cam-1", HOUR)
    with db.write("operator:alice") as tx:
        devices.end(tx, "cam-1", DeviceState.REVOKED, "stolen")
    with db.read() as tx:
        notices = [handlers.Notice(event.id, event.kind, event.device) for event in list_events(tx)]
    others = {"attestation.failed", "hold.set", "hold.lifted"}
    assert {one.kind for one in notices} >= handlers.ADMISSION_KINDS - others
    assert handlers.admission_devices(notices) == ["cam-1"]
    (record,) = handlers.admission_records(db, ["cam-1", "cam-none"])
    assert record.state is DeviceState.REVOKED
    assert record.revoked_serials == {f"{certificate.serial:x}"}
    assert record.live_serials == frozenset()
    assert record.version == max(one.id for one in notices)
    clock.advance(48 * HOUR)
    assert handlers.admission_page(db, "")[0].revoked_serials == frozenset()


def test_all_records_come_page_by_page(db: Database) -> None:
    with db.write("operator:alice") as tx:
        devices.add_model(tx, Model("sensor"))
        for number in range(1001):
            devices.register(tx, f"s-{number:04}", "sensor")
    first = handlers.admission_page(db, "")
    assert [record.device for record in first] == [f"s-{number:04}" for number in range(1000)]
    assert [record.device for record in handlers.admission_page(db, first[-1].device)] == ["s-1000"]
    assert handlers.admission_page(db, "s-1000") == []


def test_a_page_asks_the_database_a_fixed_number_of_times(db: Database, authority: PkiContext) -> None:
    for number in range(4):
        enroll(db, authority, f"cam-{number}", "camera")
        appraise(db, f"cam-{number}", HOUR)
    statements: list[str] = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    assert len(handlers.admission_page(db, "")) == 4
    asked = [one for one in statements if one.startswith("SELECT")]
    assert len(asked) == 5  # devices, certificates, appraisals; holds and the version, our own


def test_a_page_says_of_each_device_what_its_own_record_does(
    db: Database, authority: PkiContext, clock: ManualClock
) -> None:
    for number in range(2):
        enroll(db, authority, f"cam-{number}", "camera")
        enroll(db, authority, f"sensor-{number}", "sensor")
    certificate = enroll(db, authority, "cam-2", "camera")
    appraise(db, "cam-0", HOUR)
    appraise(db, "cam-1", HOUR)
    clock.advance(HOUR / 2)
    with db.write("device:cam-1") as tx:
        record_appraisal(tx, "cam-1", HOUR, is_good=False)
        pki.revoke_certificate(tx, certificate.serial, "lost")
    page = {record.device: record for record in handlers.admission_page(db, "")}
    with db.read() as tx:
        assert page == {device: service.admission_record(tx, device) for device in page}
    assert page["cam-0"].is_appraisal_good
    assert page["cam-0"].appraisal_expires_at == clock.now() + HOUR / 2
    assert not page["cam-1"].is_appraisal_good
    assert page["cam-1"].appraisal_expires_at == clock.now() + HOUR
    assert page["cam-2"].appraisal_expires_at is None
    assert page["cam-2"].revoked_serials == {f"{certificate.serial:x}"}
    assert page["sensor-1"].state is DeviceState.ACTIVE
    assert not page["sensor-1"].requires_appraisal


def test_a_device_that_renews_for_ever_keeps_a_bounded_record(
    db: Database, authority: PkiContext, clock: ManualClock
) -> None:
    issued = []
    for _ in range(MAX_SERIALS + 1):
        issued.append(enroll(db, authority, "cam-1", "sensor"))
        clock.advance(timedelta(seconds=1))
    with db.read() as tx:
        record = service.admission_record(tx, "cam-1")
    assert record is not None
    live = [issued[0], *issued[-(MAX_LIVE_CERTIFICATES - 1) :]]
    assert record.live_serials == {f"{one.serial:x}" for one in live}
    with db.write("operator:alice") as tx:
        for one in issued:
            pki.revoke_certificate(tx, one.serial, "lost")
        record = service.admission_record(tx, "cam-1")
    assert record is not None
    assert record.live_serials == frozenset()
    assert record.revoked_serials == {f"{one.serial:x}" for one in issued[1:]}
    assert refusal(db, issued[0]) == RefusalCode.CERTIFICATE_UNKNOWN
