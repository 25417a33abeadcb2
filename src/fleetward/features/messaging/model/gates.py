"""The gates: whether a device may hold a session, and until when. Pure; the rule stands here alone.

A gate is a pure function of a device's admission record, the certificate it shows and the time, which returns
why there is no session, or None. `GATES` is all of them, in the order they are asked: the callout, CoAP,
video, "why?" and `GET /devices/{id}/session` walk this one tuple. A session ends when the first gate closes.

Rooms above add no gate. They set a named hold on a device and lift it; the last gate asks for holds.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

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
    CERTIFICATE_UNKNOWN = "certificate_unknown"
    CLIENT_ID_MISMATCH = "client_id_mismatch"
    DEVICE_UNKNOWN = "device_unknown"
    DEVICE_NOT_ACTIVE = "device_not_active"
    APPRAISAL_MISSING = "appraisal_missing"
    APPRAISAL_FAILED = "appraisal_failed"
    APPRAISAL_EXPIRED = "appraisal_expired"
    HELD = "held"


# What nats-server calls a client that gives no client id (nuid: 22 digits of base 62).
_MADE_UP = re.compile("[0-9A-Za-z]{22}")
# What an upper room can still mend in a moment: an enrollment or appraisal whose event is on its way.
MAY_CHANGE_SOON = frozenset(
    {
        RefusalCode.CERTIFICATE_UNKNOWN,
        RefusalCode.DEVICE_UNKNOWN,
        RefusalCode.DEVICE_NOT_ACTIVE,
        RefusalCode.APPRAISAL_MISSING,
        RefusalCode.APPRAISAL_FAILED,
        RefusalCode.APPRAISAL_EXPIRED,
        RefusalCode.HELD,
    }
)


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a room above lets a device have no session, until it lifts the hold.

    Attributes:
        name: whose and what for, e.g. `segmentation-quarantine`; messaging knows none of them.
    """

    name: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class AdmissionRecord:
    """All that decides on a device's sessions apart from the certificate it shows.

    Attributes:
        version: grows with every change of the registry that this record has seen; two records that differ
            in nothing else are equal.
        appraisal_expires_at: end of the last appraisal; None when there was none, or none is asked for.
        live_serials: certificates we have issued to it, neither revoked nor expired, the newest. One that is
            not among them was signed by someone else with our CA's key, or its event is still on its way.
        revoked_serials: revoked certificates that have not expired, the newest.
        holds: by name.
    """

    device: str
    version: int = field(compare=False)
    state: DeviceState
    requires_appraisal: bool
    is_appraisal_good: bool = False
    appraisal_expires_at: datetime | None = None
    live_serials: frozenset[str] = frozenset()
    revoked_serials: frozenset[str] = frozenset()
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionCertificate:
    """A client certificate whose chain was verified.

    Attributes:
        serial: lower-case hex.
        not_before, not_after: None where a running session is known by its serial alone; the broker ends it
            in time.
    """

    device: str
    serial: str
    not_before: datetime | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A session: until when, and which NATS subjects."""

    device: str
    expires_at: datetime
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """No session.

    Attributes:
        finding: what was found, a sentence.
        device: whom the certificate names, None where it names nobody.
        fix: what to do, a sentence; "" where nothing is to be done here.
        command: the command line that does it or looks closer, "" when there is none.
    """

    code: RefusalCode
    finding: str
    device: str | None = None
    fix: str = ""
    command: str = ""


Shown: TypeAlias = SessionCertificate | None  # None: on any of the device's certificates
Check: TypeAlias = Callable[[AdmissionRecord | None, Shown, datetime], Refusal | None]


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate.

    Attributes:
        name: for machines; part of the HTTP contract.
        title: what is true while it is open.
        check: why it is closed, None while it is open.
        finding: what it found, a sentence, while it is open.
        closes_at: when it closes by itself, None where it does not.
    """

    name: str
    title: str
    check: Check
    finding: Callable[[AdmissionRecord | None, Shown], str]
    closes_at: Callable[[AdmissionRecord | None, Shown], datetime | None] = lambda _record, _shown: None


@dataclass(frozen=True, slots=True)
class Asked:
    """A gate and what it says now: `refusal` is None while it is open."""

    gate: Gate
    refusal: Refusal | None
    finding: str
    closes_at: datetime | None


def decide(
    record: AdmissionRecord | None, certificate: SessionCertificate, client_id: str, now: datetime
) -> Grant | Refusal:
    """Return whether the device behind `certificate` may hold a session as `client_id` now.

    The client id must be the device's own, and every gate open. The session ends when the first gate closes,
    at the full second before it.
    """
    device = certificate.device
    if client_id != device:
        made_up = ", or under none: nats-server makes up such a name" if _MADE_UP.fullmatch(client_id) else ""
        return Refusal(
            RefusalCode.CLIENT_ID_MISMATCH,
            f"Device {device} asked for a session as {client_id[:64]!r}, a client id not its own{made_up}.",
            device,
            "Set the MQTT client id to the device's own id. If the device does, somebody else uses its "
            "certificate: revoke it.",
            _look(device),
        )
    refusal = find_refusal(record, certificate, now)
    if refusal is not None:
        return refusal
    first = min(end for gate in GATES if (end := gate.closes_at(record, certificate)) is not None)
    expires_at = first.replace(microsecond=0)
    too_short = find_refusal(record, certificate, first) if expires_at <= now else None
    return too_short or Grant(device, expires_at, publish_subjects(device), subscribe_subjects(device))


def find_refusal(record: AdmissionRecord | None, certificate: Shown, now: datetime) -> Refusal | None:
    """Return what the first closed gate says, None when all are open: a session may begin or go on."""
    for gate in GATES:
        refusal = gate.check(record, certificate, now)
        if refusal is not None:
            return refusal
    return None


def ask_all(record: AdmissionRecord | None, certificate: Shown, now: datetime) -> tuple[Asked, ...]:
    """Return what every gate says, open or closed, in order."""
    asked = []
    for gate in GATES:
        refusal = gate.check(record, certificate, now)
        finding = gate.finding(record, certificate) if refusal is None else refusal.finding
        end = gate.closes_at(record, certificate) if refusal is None else None
        asked.append(Asked(gate, refusal, finding, end))
    return tuple(asked)


def _check_time(_record: AdmissionRecord | None, certificate: Shown, now: datetime) -> Refusal | None:
    if certificate is None:
        return None
    device = certificate.device
    if certificate.not_before is not None and now < certificate.not_before:
        return Refusal(
            RefusalCode.CERTIFICATE_NOT_YET_VALID,
            f"The certificate of device {device} is not valid before {render_time(certificate.not_before)}.",
            device,
            "Wait until then; if that is long, look at the platform's clock.",
            _look(device),
        )
    if certificate.not_after is not None and now >= certificate.not_after:
        return Refusal(
            RefusalCode.CERTIFICATE_EXPIRED,
            f"The certificate of device {device} expired at {render_time(certificate.not_after)}.",
            device,
            "It recovers by itself where its model allows that; else give it a fresh claim.",
            _claim(device),
        )
    return None


def _check_issued(record: AdmissionRecord | None, certificate: Shown, _now: datetime) -> Refusal | None:
    if record is None:
        device = None if certificate is None else certificate.device
        named = "The device" if device is None else f"Device {device}"
        fix = "Register it, or let it enroll with what its factory gave it."
        return Refusal(RefusalCode.DEVICE_UNKNOWN, f"{named} is not registered.", device, fix)
    if certificate is None:
        return _check_any(record)
    if certificate.serial in record.revoked_serials:
        return Refusal(
            RefusalCode.CERTIFICATE_REVOKED,
            f"The certificate {certificate.serial} of device {record.device} was revoked.",
            record.device,
            "Recover it with a fresh claim.",
            _claim(record.device),
        )
    if certificate.serial not in record.live_serials:
        return Refusal(
            RefusalCode.CERTIFICATE_UNKNOWN,
            f"We did not issue the certificate {certificate.serial} that device {record.device} showed.",
            record.device,
            "It shows a certificate we do not remember: enroll it anew with a fresh claim.",
            _claim(record.device),
        )
    return None


def _check_any(record: AdmissionRecord) -> Refusal | None:
    if record.live_serials:
        return None
    device = record.device
    code, finding = RefusalCode.CERTIFICATE_EXPIRED, f"Device {device} has no certificate that is valid."
    if record.revoked_serials:
        code, finding = RefusalCode.CERTIFICATE_REVOKED, f"The certificate of device {device} was revoked."
    return Refusal(code, finding, device, "Recover it with a fresh claim.", _claim(device))


def _check_life(record: AdmissionRecord | None, _shown: Shown, _now: datetime) -> Refusal | None:
    if record is None or record.state is DeviceState.ACTIVE:
        return None
    fix, command = _LIFE[record.state]
    return Refusal(
        RefusalCode.DEVICE_NOT_ACTIVE,
        f"Device {record.device} is {record.state}, not active.",
        record.device,
        fix,
        command.format(device=record.device),
    )


def _check_appraisal(record: AdmissionRecord | None, _shown: Shown, now: datetime) -> Refusal | None:
    if record is None or not record.requires_appraisal:
        return None
    device = record.device
    if record.appraisal_expires_at is None:
        return Refusal(
            RefusalCode.APPRAISAL_MISSING,
            f"Device {device} has not been attested.",
            device,
            "Its agent attests by itself once it reaches us: see that it runs, and that it has a TPM.",
            _look(device),
        )
    if not record.is_appraisal_good:
        return Refusal(
            RefusalCode.APPRAISAL_FAILED,
            f"Device {device} failed its last attestation.",
            device,
            "Look at the reasons; docs/explanation/attestation.md says for each what to do.",
            _look(device),
        )
    if record.appraisal_expires_at <= now:
        return Refusal(
            RefusalCode.APPRAISAL_EXPIRED,
            f"The appraisal of device {device} expired at {render_time(record.appraisal_expires_at)}.",
            device,
            "See that it has power and network: its agent attests before the time is over.",
            _look(device),
        )
    return None


def _check_holds(record: AdmissionRecord | None, _shown: Shown, _now: datetime) -> Refusal | None:
    if record is None or not record.holds:
        return None
    first, *rest = record.holds
    since = render_time(first.since)
    more = f" And {len(rest)} more hold it." if rest else ""
    return Refusal(
        RefusalCode.HELD,
        f"Device {record.device} is held by {first.name} since {since}: {first.reason}.{more}",
        record.device,
        "Mend what it is held for: who set a hold lifts it.",
        f"fleetward events --device {record.device}",
    )


def _end_of_certificate(_record: AdmissionRecord | None, certificate: Shown) -> datetime | None:
    return None if certificate is None else certificate.not_after


def _end_of_appraisal(record: AdmissionRecord | None, _shown: Shown) -> datetime | None:
    return record.appraisal_expires_at if record is not None and record.requires_appraisal else None


def _say_time(_record: AdmissionRecord | None, certificate: Shown) -> str:
    end = None if certificate is None else certificate.not_after
    return "It has one." if end is None else f"It is valid until {render_time(end)}."


def _say_appraisal(record: AdmissionRecord | None, _shown: Shown) -> str:
    end = _end_of_appraisal(record, None)
    return "Its model asks for none." if end is None else f"It is good until {render_time(end)}."


def _look(device: str) -> str:
    return f"fleetward events --device {device}"


def _claim(device: str) -> str:
    return f"fleetward device claim {device}"


_FOR_GOOD = (
    "That is for good. The same hardware comes back only as a device of another id, with a new key.",
    "fleetward audit search --device {device}",
)
_LIFE = {
    DeviceState.REGISTERED: (
        "Give it a fresh claim, or let it enroll with the chip it was shipped with.",
        "fleetward device claim {device}",
    ),
    DeviceState.ENROLLED: (
        "It becomes active with its first good appraisal.",
        "fleetward events --device {device}",
    ),
    DeviceState.QUARANTINED: (
        "Look into the reason; then release it, or revoke it.",
        "fleetward device release {device}",
    ),
    DeviceState.RETIRED: _FOR_GOOD,
    DeviceState.REVOKED: _FOR_GOOD,
}

GATES: tuple[Gate, ...] = (
    Gate("certificate", "Certificate valid", _check_time, _say_time, _end_of_certificate),
    Gate(
        "issued",
        "Issued by us, not revoked",
        _check_issued,
        lambda _record, _shown: "We issued it, and did not revoke it.",
    ),
    Gate("life", "Life allows it", _check_life, lambda _record, _shown: "The device is active."),
    Gate("appraisal", "Appraisal good and fresh", _check_appraisal, _say_appraisal, _end_of_appraisal),
    Gate("holds", "Nothing holds it", _check_holds, lambda _record, _shown: "No room holds it."),
)
