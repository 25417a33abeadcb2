"""Who may hold a session, drawn from registry, certificates and appraisals."""

from collections.abc import Collection, Sequence
from datetime import datetime

from fleetward.base.db import Tx
from fleetward.base.errors import ForbiddenError
from fleetward.features.attestation import service as attestation
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import Standing
from fleetward.features.messaging import store
from fleetward.features.messaging.model import (
    AdmissionRecord,
    Asked,
    Grant,
    Refusal,
    SessionCertificate,
    ask_all,
    decide,
)
from fleetward.features.pki import service as pki
from fleetward.features.pki.model import CertificateRecord, DeviceCertificate

# Of a device's live and of its revoked certificates, so many of the newest are in its record; an older one
# counts as unknown.
MAX_SERIALS = 32
_NONE: tuple[bool, datetime | None] = (False, None)


class SessionRefusedError(ForbiddenError):
    """The device may hold no session now; `reason` in details is a RefusalCode."""

    code = "session_refused"


def admission_record(tx: Tx, device_id: str) -> AdmissionRecord | None:
    """Return all that decides on a device's sessions, None for an unknown device."""
    return next(iter(admission_records(tx, [device_id])), None)


def admission_records(tx: Tx, device_ids: Collection[str]) -> list[AdmissionRecord]:
    """Return the records of those of these devices that are registered, by id."""
    return _records_of(tx, devices.list_standings(tx, ids=device_ids, limit=len(device_ids)))


def list_admission_records(tx: Tx, *, after: str = "", limit: int = 500) -> list[AdmissionRecord]:
    """Return the records of up to `limit` devices by id, those after `after`."""
    return _records_of(tx, devices.list_standings(tx, after=after, limit=limit))


def registry_version(tx: Tx) -> int:
    """Return the version that a record drawn now would have."""
    return store.last_event_id(tx)


def ask_gates(tx: Tx, device_id: str) -> tuple[Asked, ...]:
    """Return what every gate says of a device now, on the best certificate it has.

    Raises:
        NotFoundError: no such device.
    """
    devices.get_device(tx, device_id)
    record = admission_record(tx, device_id)
    return ask_all(record, _best_of(pki.list_certificates(tx, device_id), tx.now), tx.now)


def require_session(
    tx: Tx, device_id: str, certificate: DeviceCertificate, now: datetime | None = None
) -> Grant:
    """Return the session that `certificate` gives the device, as the broker would.

    Args:
        now: the transaction's time when None.

    Raises:
        SessionRefusedError: it gives none; details say why.
    """
    shown = SessionCertificate(
        device=certificate.device_id,
        serial=f"{certificate.serial:x}",
        not_before=certificate.not_before,
        not_after=certificate.not_after,
    )
    decision = decide(admission_record(tx, certificate.device_id), shown, device_id, now or tx.now)
    if isinstance(decision, Refusal):
        raise SessionRefusedError(decision.finding, reason=decision.code.value)
    return decision


def _best_of(certificates: Sequence[CertificateRecord], now: datetime) -> SessionCertificate | None:
    """Return the newest live certificate, else the newest; None when there is none."""
    live = next((one for one in certificates if one.is_live(now)), None)
    best = live or next(iter(certificates), None)
    if best is None:
        return None
    return SessionCertificate(best.device_id, f"{best.serial:x}", best.not_before, best.not_after)


def _records_of(tx: Tx, standings: Sequence[Standing]) -> list[AdmissionRecord]:
    """Return the records of devices: three queries below for all of them, and two of our own."""
    if not standings:
        return []
    version = store.last_event_id(tx)
    holds = store.list_holds(tx, [one.id for one in standings])
    attested = [one.id for one in standings if one.requires_appraisal]
    appraisals = {device: (good, end) for device, good, end in attestation.list_latest(tx, attested)}
    serials: dict[str, tuple[list[str], list[str]]] = {one.id: ([], []) for one in standings}
    for device, serial, is_revoked in pki.list_unexpired(tx, serials):
        of_device = serials[device][is_revoked]
        if len(of_device) < MAX_SERIALS:
            of_device.append(serial)
    return [
        AdmissionRecord(
            device=one.id,
            version=version,
            state=one.state,
            requires_appraisal=one.requires_appraisal,
            is_appraisal_good=appraisals.get(one.id, _NONE)[0],
            appraisal_expires_at=appraisals.get(one.id, _NONE)[1],
            live_serials=frozenset(serials[one.id][0]),
            revoked_serials=frozenset(serials[one.id][1]),
            holds=holds.get(one.id, ()),
        )
        for one in standings
    ]
