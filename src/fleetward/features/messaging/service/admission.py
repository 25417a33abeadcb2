"""Who may hold a session, drawn from registry, certificates and appraisals."""

from datetime import datetime

from fleetward.base.db import Tx
from fleetward.base.errors import ForbiddenError
from fleetward.features.attestation import service as attestation
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, Device, Model
from fleetward.features.messaging import store
from fleetward.features.messaging.model import (
    AdmissionRecord,
    Grant,
    Refusal,
    SessionCertificate,
    decide,
)
from fleetward.features.pki import service as pki
from fleetward.features.pki.model import DeviceCertificate


class SessionRefusedError(ForbiddenError):
    """The device may hold no session now; `reason` in details is a RefusalCode."""

    code = "session_refused"


def admission_record(tx: Tx, device_id: str) -> AdmissionRecord | None:
    """Return all that decides on a device's sessions, None for an unknown device."""
    device = devices.find_device(tx, device_id)
    if device is None:
        return None
    return _record_of(tx, device, devices.get_model(tx, device.model), store.last_event_id(tx))


def list_admission_records(tx: Tx, *, after: str = "", limit: int = 500) -> list[AdmissionRecord]:
    """Return the records of up to `limit` devices by id, those after `after`."""
    version = store.last_event_id(tx)
    models = {model.id: model for model in devices.list_models(tx)}
    found = devices.list_devices(tx, after=after, limit=limit)
    return [_record_of(tx, device, models[device.model], version) for device in found]


def registry_version(tx: Tx) -> int:
    """Return the version that a record drawn now would have."""
    return store.last_event_id(tx)


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
        raise SessionRefusedError(decision.message, reason=decision.code.value)
    return decision


def _record_of(tx: Tx, device: Device, model: Model, version: int) -> AdmissionRecord:
    requires_appraisal = model.attestation is AttestationPolicy.REQUIRED
    appraisal = attestation.find_appraisal(tx, device.id) if requires_appraisal else None
    return AdmissionRecord(
        device=device.id,
        version=version,
        state=device.state,
        requires_appraisal=requires_appraisal,
        is_appraisal_good=appraisal is not None and appraisal.good,
        appraisal_expires_at=None if appraisal is None else appraisal.expires_at,
        live_serials=frozenset(f"{serial:x}" for serial in pki.list_live_serials(tx, device.id)),
        revoked_serials=frozenset(f"{serial:x}" for serial in pki.list_revoked_serials(tx, device.id)),
    )
