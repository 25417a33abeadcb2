"""What devices run: evidence, verdicts, and who is told."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetward.base import journal
from fleetward.base.clock import render_time
from fleetward.base.db import IdQuery, Tx
from fleetward.base.errors import FleetwardError, RateLimitedError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id
from fleetward.features.attestation import model, store
from fleetward.features.attestation.model import (
    EVERY_MODEL,
    Appraisal,
    AttestationKey,
    EvidenceRefusedError,
    Reason,
    ReasonCode,
)
from fleetward.features.attestation.store import ChallengeKind
from fleetward.features.devices import service as devices
from fleetward.wire import tpm
from fleetward.wire.evidence import Evidence

KEPT_APPRAISALS = 50
_MAX_APPRAISALS_A_MINUTE = 12
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Nonce:
    value: bytes
    expires_at: datetime


def issue_nonce(tx: Tx, device_id: str) -> Nonce:
    """Return a fresh nonce to quote over; good once, for two minutes. Of a device's open ones four are kept.

    Raises:
        RateLimitedError: the device has handed in evidence too often within a minute.
    """
    if store.count_appraisals(tx, device_id, tx.now - _MINUTE) >= _MAX_APPRAISALS_A_MINUTE:
        raise RateLimitedError(
            f"device {device_id}: expected evidence at most {_MAX_APPRAISALS_A_MINUTE} times a minute",
            retry_after_s=int(_MINUTE.total_seconds()),
        )
    nonce = Nonce(os.urandom(model.NONCE_BYTES), tx.now + model.NONCE_LIFETIME)
    store.make_room(tx, device_id, ChallengeKind.NONCE)
    store.insert_challenge(
        tx,
        ChallengeKind.NONCE,
        id=new_id("nonce"),
        device=device_id,
        nonce=nonce.value,
        expires_at=nonce.expires_at,
    )
    return nonce


def appraise(tx: Tx, device_id: str, evidence: Evidence) -> Appraisal:
    """Appraise evidence over a nonce we issued to the device, record and tell the verdict; spends the nonce.

    Raises:
        EvidenceRefusedError: the nonce is not one of the device's, used or expired. Nothing was judged: a
            repeated request must not cost a device its session.
        NotFoundError: no such device.
        InvalidInputError: malformed quote or signature.
    """
    nonce = tpm.parse_quote(evidence.quote).nonce
    if not store.take_nonce(tx, device_id, ChallengeKind.NONCE, nonce):
        raise EvidenceRefusedError(
            f"evidence of {device_id}: expected a quote over an open nonce of its own, found another",
            hint="Ask for a new nonce; each is good once, for two minutes.",
            reason=ReasonCode.QUOTE_STALE.value,
        )
    return appraise_over(tx, device_id, evidence, nonce)


def appraise_over(
    tx: Tx, device_id: str, evidence: Evidence, nonce: bytes, *, key: AttestationKey | None = None
) -> Appraisal:
    """Appraise evidence that must be over `nonce`, record and tell the verdict.

    Args:
        key: the attestation key just activated; the device's own when None.

    Raises:
        NotFoundError: no such device.
        InvalidInputError: malformed quote or signature.
    """
    device = devices.get_device(tx, device_id)
    product = devices.get_model(tx, device.model)
    known = key or store.find_key(tx, device_id)
    if known is None:
        tier = device.tier or "no tier yet"
        message = f"It has no activated attestation key: only a TPM can give one, its keys are in {tier}."
        reason = Reason(ReasonCode.NO_ATTESTATION_KEY, message)
        verdict = Appraisal(device_id, tx.now, good=False, expires_at=tx.now, reasons=(reason,))
    else:
        allowed = store.list_references(tx, (device.model, EVERY_MODEL))
        verdict = model.appraise(
            device_id, known.parsed, evidence, nonce, allowed,
            lifetime=product.appraisal_lifetime, now=tx.now,
        )  # fmt: skip
    _record(tx, verdict)
    return verdict


def record_refusal(tx: Tx, device_id: str, error: FleetwardError, *, repeats: int) -> None:
    """Tell that evidence was refused unread.

    Args:
        repeats: how many equal refusals were held back since the last one told.
    """
    emit(
        tx,
        "attestation.failed",
        f"Evidence of device {device_id} was refused, its last verdict stands: {error.message}",
        device=device_id,
        severity=Severity.WARNING,
        reasons=[reason_of(error)],
        repeats=repeats,
    )


def reason_of(error: FleetwardError) -> str:
    """Return the fixed word for why evidence was refused."""
    return str(error.details.get("reason", error.code))


def find_appraisal(tx: Tx, device_id: str) -> Appraisal | None:
    """Return a device's latest appraisal, good or bad."""
    return next(iter(store.list_appraisals(tx, device_id, limit=1)), None)


def list_appraisals(tx: Tx, device_id: str, *, limit: int = KEPT_APPRAISALS) -> list[Appraisal]:
    """Return a device's appraisals, newest first."""
    return store.list_appraisals(tx, device_id, limit=limit)


def list_latest(tx: Tx, devices: Collection[str]) -> list[tuple[str, bool, datetime]]:
    """Return device, whether it was good and its end, of the last appraisal of each that has one."""
    return store.list_latest(tx, devices)


def list_failing(tx: Tx, among: IdQuery, *, limit: int) -> tuple[int, list[Appraisal]]:
    """Return how many devices of `among` failed their last appraisal, and the newest of these verdicts."""
    return store.list_failing(tx, among, limit=limit)


def forget_expired(tx: Tx) -> int:
    """Delete challenges and nonces that ran out; return how many."""
    return store.delete_expired_challenges(tx)


def _record(tx: Tx, verdict: Appraisal) -> None:
    store.insert_appraisal(tx, verdict, keep=KEPT_APPRAISALS)
    subject, until = f"device:{verdict.device_id}", render_time(verdict.expires_at)
    codes, said = (
        [one.code.value for one in verdict.reasons],
        " ".join(one.message for one in verdict.reasons),
    )
    if verdict.good:
        journal.record(tx, "attestation.appraised", subject, good=True, expires_at=until)
        emit(
            tx, "attestation.appraised", f"Device {verdict.device_id} runs what it should, until {until}.",
            device=verdict.device_id, expires_at=until, firmware_version=verdict.firmware_version,
        )  # fmt: skip
        devices.record_good_appraisal(tx, verdict.device_id)
        if verdict.firmware_version is not None:
            devices.set_firmware_version(tx, verdict.device_id, verdict.firmware_version)
        return
    journal.record(tx, "attestation.failed", subject, good=False, reasons=codes)
    emit(
        tx,
        "attestation.failed",
        f"Device {verdict.device_id} failed attestation: {said}",
        device=verdict.device_id,
        severity=Severity.CRITICAL,
        reasons=codes,
    )
