"""Whether a device may hold a session, and until when; how commands and shadows may change. Pure.

A session exists only while: certificate valid, not revoked, appraisal good and fresh where the model asks for
one, lifecycle state active. The first of these to end ends it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from fleetward.base.clock import render_time
from fleetward.features.devices.model import DeviceState
from fleetward.wire.command import CommandResult
from fleetward.wire.mqtt_topics import publish_subjects, subscribe_subjects


class RefusalCode(StrEnum):
    """Why there is no session; part of the event contract."""

    NOT_A_DEVICE = "not_a_device"
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_REVOKED = "certificate_revoked"
    CERTIFICATE_UNKNOWN = "certificate_unknown"
    CLIENT_ID_MISMATCH = "client_id_mismatch"
    DEVICE_UNKNOWN = "device_unknown"
    DEVICE_NOT_ACTIVE = "device_not_active"
    APPRAISAL_MISSING = "appraisal_missing"
    APPRAISAL_FAILED = "appraisal_failed"
    APPRAISAL_EXPIRED = "appraisal_expired"


# What an upper room can still mend in a moment: an enrollment or appraisal whose event is on its way.
MAY_CHANGE_SOON = frozenset(
    {
        RefusalCode.CERTIFICATE_UNKNOWN,
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
        version: grows with every change of the registry that this record has seen; two records that differ
            in nothing else are equal.
        appraisal_expires_at: end of the last appraisal; None when there was none, or none is asked for.
        live_serials: certificates we have issued to it, neither revoked nor expired. One that is not among
            them was signed by someone else with our CA's key, or its event is still on its way.
        revoked_serials: revoked certificates that have not expired.
    """

    device: str
    version: int = field(compare=False)
    state: DeviceState
    requires_appraisal: bool
    is_appraisal_good: bool = False
    appraisal_expires_at: datetime | None = None
    live_serials: frozenset[str] = frozenset()
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
    this certificate one we issued to it and did not revoke. 4. Its life allows sessions. 5. Its appraisal is
    good and fresh, where the model asks for one. The session ends when the earlier of certificate and
    appraisal does, at the full second before it.
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
    refusal = refusal_of(record, certificate.serial, now)
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


def refusal_of(record: AdmissionRecord | None, serial: str, now: datetime) -> Refusal | None:
    """Return why a session granted on certificate `serial` must end now, None when it may go on.

    Args:
        serial: "" when it is not known: then the certificate is not looked at.
    """
    if record is None:
        return Refusal(RefusalCode.DEVICE_UNKNOWN, "The device is not registered.")
    if serial in record.revoked_serials:
        return Refusal(
            RefusalCode.CERTIFICATE_REVOKED,
            f"The certificate {serial} of device {record.device} was revoked.",
            record.device,
        )
    if serial and serial not in record.live_serials:
        return Refusal(
            RefusalCode.CERTIFICATE_UNKNOWN,
            f"We did not issue the certificate {serial} that device {record.device} showed.",
            record.device,
        )
    return _check_life(record, now)


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


class CommandState(StrEnum):
    """How far a command is; see `may_become`."""

    QUEUED = "queued"
    SENT = "sent"
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


_NEXT: dict[CommandState, frozenset[CommandState]] = {
    CommandState.QUEUED: frozenset(
        {CommandState.SENT, CommandState.DONE, CommandState.FAILED, CommandState.TIMED_OUT}
    ),
    CommandState.SENT: frozenset({CommandState.DONE, CommandState.FAILED, CommandState.TIMED_OUT}),
    CommandState.DONE: frozenset(),
    CommandState.FAILED: frozenset(),
    CommandState.TIMED_OUT: frozenset(),
}
OPEN_STATES = (CommandState.QUEUED, CommandState.SENT)
_FIRST_RESEND = timedelta(seconds=1)
_LONGEST_RESEND = timedelta(seconds=30)


@dataclass(frozen=True)
class CommandRecord:
    """One command and what became of it.

    Attributes:
        result: what the device answered; None before, and when it timed out.
    """

    id: int
    device: str
    name: str
    args: dict[str, Any]
    state: CommandState
    actor: str
    created_at: datetime
    expires_at: datetime
    attempts: int
    finished_at: datetime | None
    result: CommandResult | None


def may_become(state: CommandState, to: CommandState) -> bool:
    """Whether a command has a step from `state` to `to`; a result that comes too late changes nothing."""
    return to in _NEXT[state]


def next_send_at(attempts: int, now: datetime) -> datetime:
    """Return when to send a command again that stays without result: after 1, 2, 4, … up to 30 seconds."""
    pause: timedelta = min(_FIRST_RESEND * (1 << min(attempts, 10)), _LONGEST_RESEND)
    return now + pause


@dataclass(frozen=True)
class Shadow:
    """What is desired of a device and what it reports.

    Attributes:
        acknowledged_version: the last desired version the device says it has acted on.
    """

    device: str
    desired: dict[str, Any] = field(default_factory=dict)
    desired_version: int = 0
    desired_at: datetime | None = None
    reported: dict[str, Any] = field(default_factory=dict)
    reported_version: int = 0
    reported_at: datetime | None = None
    acknowledged_version: int = 0


def accepts_reported(shadow: Shadow, version: int) -> bool:
    """Whether a reported version is news; version 0 is a device that has lost its memory."""
    return version > shadow.reported_version or (version == 0 and shadow.reported_version > 0)


@dataclass(frozen=True)
class Presence:
    """Whether a device holds a session now.

    Attributes:
        since: when this began, RFC 3339; "" when it never had one.
        address: of its last connection; "" when unknown.
        reason: why the last session ended; "" while connected.
        connection: server and number of the connection, so that the end of an older one changes nothing.
    """

    device: str
    is_connected: bool = False
    since: str = ""
    address: str = ""
    reason: str = ""
    connection: str = ""
