"""Whether a device may hold a session, and until when. Pure.

A session exists only while: certificate valid, not revoked, appraisal good and fresh where the model asks for
one, lifecycle state active. The first of these to end ends it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleetward.base.clock import render_time
from fleetward.features.devices.model import DeviceState
from fleetward.wire.mqtt_topics import publish_subjects, subscribe_subjects


class RefusalCode(StrEnum):
    """Why there is no session; part of the event contract."""

    NOT_A_DEVICE = "not_a_device"
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_REVOKED = "certificate_revoked"
    CLIENT_ID_MISMATCH = "client_id_mismatch"
    DEVICE_UNKNOWN = "device_unknown"
    DEVICE_NOT_ACTIVE = "device_not_active"
    APPRAISAL_MISSING = "appraisal_missing"
    APPRAISAL_FAILED = "appraisal_failed"
    APPRAISAL_EXPIRED = "appraisal_expired"


# What an upper room can still mend in a moment: an enrollment or appraisal whose event is on its way.
MAY_CHANGE_SOON = frozenset(
    {
        RefusalCode.DEVICE_UNKNOWN,
        RefusalCode.DEVICE_NOT_ACTIVE,
        RefusalCode.APPRAISAL_MISSING,
        RefusalCode.APPRAISAL_FAILED,
        RefusalCode.APPRAISAL_EXPIRED,
    }
)


@dataclass(frozen=True, slots=True)
class AdmissionRecord:
    """All that decides on a device's sessions apart from the certificate it shows.

    Attributes:
        version: grows with every change of the registry that this record has seen.
        appraisal_expires_at: end of the last appraisal; None when there was none.
        revoked_serials: revoked certificates that have not yet expired.
    """

    device: str
    version: int
    state: DeviceState
    requires_appraisal: bool
    is_appraisal_good: bool = False
    appraisal_expires_at: datetime | None = None
    revoked_serials: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SessionCertificate:
    """A client certificate whose chain was verified.

    Attributes:
        serial: lower-case hex.
    """

    device: str
    serial: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """A session: until when, and which NATS subjects."""

    device: str
    expires_at: datetime
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """No session. `device` is whom the certificate names, None where it names nobody."""

    code: RefusalCode
    message: str
    device: str | None = None


def decide(
    record: AdmissionRecord | None, certificate: SessionCertificate, client_id: str, now: datetime
) -> Grant | Refusal:
    """Return whether the device behind `certificate` may hold a session as `client_id` now.

    1. The client id is the device's own. 2. The certificate is within its time. 3. The device is known, and
    this certificate not revoked. 4. Its life allows sessions. 5. Its appraisal is good and fresh, where the
    model asks for one. The session ends when the earlier of certificate and appraisal does, at the full
    second before it.
    """
    device = certificate.device
    if client_id != device:
        return Refusal(
            RefusalCode.CLIENT_ID_MISMATCH,
            f"Device {device} asked for a session under the client id {client_id[:64]!r}, not its own.",
            device,
        )
    refusal = _check_certificate(certificate, now)
    if refusal is not None:
        return refusal
    if record is None:
        return Refusal(RefusalCode.DEVICE_UNKNOWN, f"Device {device} is not registered.", device)
    refusal = _check_revocation(record, certificate) or _check_life(record, now)
    if refusal is not None:
        return refusal
    ends = {RefusalCode.CERTIFICATE_EXPIRED: certificate.not_after}
    if record.requires_appraisal and record.appraisal_expires_at is not None:
        ends[RefusalCode.APPRAISAL_EXPIRED] = record.appraisal_expires_at
    first = min(ends, key=lambda code: ends[code])
    expires_at = ends[first].replace(microsecond=0)
    if expires_at <= now:
        return Refusal(first, f"The session of device {device} would end within this second.", device)
    return Grant(device, expires_at, publish_subjects(device), subscribe_subjects(device))


def admissible_until(record: AdmissionRecord | None, now: datetime) -> datetime | None:
    """Return until when the device may hold sessions whatever its certificate; None when it may not now.

    A model without attestation sets no end of its own: `datetime.max` then.
    """
    if record is None or _check_life(record, now) is not None:
        return None
    if record.requires_appraisal and record.appraisal_expires_at is not None:
        return record.appraisal_expires_at
    return datetime.max.replace(tzinfo=now.tzinfo)


def _check_certificate(certificate: SessionCertificate, now: datetime) -> Refusal | None:
    device = certificate.device
    if now < certificate.not_before:
        return Refusal(
            RefusalCode.CERTIFICATE_NOT_YET_VALID,
            f"The certificate of device {device} is not valid before {render_time(certificate.not_before)}.",
            device,
        )
    if now >= certificate.not_after:
        return Refusal(
            RefusalCode.CERTIFICATE_EXPIRED,
            f"The certificate of device {device} expired at {render_time(certificate.not_after)}.",
            device,
        )
    return None


def _check_revocation(record: AdmissionRecord, certificate: SessionCertificate) -> Refusal | None:
    if certificate.serial not in record.revoked_serials:
        return None
    return Refusal(
        RefusalCode.CERTIFICATE_REVOKED,
        f"Device {record.device} came with its revoked certificate {certificate.serial}.",
        record.device,
    )


def _check_life(record: AdmissionRecord, now: datetime) -> Refusal | None:
    device = record.device
    if record.state is not DeviceState.ACTIVE:
        return Refusal(
            RefusalCode.DEVICE_NOT_ACTIVE, f"Device {device} is {record.state}, not active.", device
        )
    if not record.requires_appraisal:
        return None
    if record.appraisal_expires_at is None:
        return Refusal(RefusalCode.APPRAISAL_MISSING, f"Device {device} has not been attested.", device)
    if not record.is_appraisal_good:
        return Refusal(RefusalCode.APPRAISAL_FAILED, f"Device {device} failed its last attestation.", device)
    if record.appraisal_expires_at <= now:
        return Refusal(
            RefusalCode.APPRAISAL_EXPIRED,
            f"The appraisal of device {device} expired at {render_time(record.appraisal_expires_at)}.",
            device,
        )
    return None
