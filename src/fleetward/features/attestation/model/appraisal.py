"""What a device may run, and the verdict over what it does (RFC 9334)."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleetward.base.errors import ConflictError
from fleetward.wire import tpm
from fleetward.wire.event_log import BOOT_PCR, FIRMWARE_PCR, LogEntry, Measured, replay
from fleetward.wire.evidence import Evidence

NONCE_BYTES = 32
NONCE_LIFETIME = timedelta(minutes=2)
EVERY_MODEL = "*"
QUOTED_PCRS = (BOOT_PCR, FIRMWARE_PCR)
_FIRMWARE = (Measured.IMAGE, Measured.MANIFEST)
_DEMANDED = (Measured.BOOT_STAGE, Measured.PINNED_KEYS, *_FIRMWARE)


class EvidenceRefusedError(ConflictError):
    """Evidence that is not appraised at all, because it may be an old one; the last verdict stands."""

    code = "evidence_refused"


class ReasonCode(StrEnum):
    """Why an appraisal failed; part of the HTTP contract, explained in docs/explanation/attestation.md."""

    NO_ATTESTATION_KEY = "no_attestation_key"
    QUOTE_SIGNATURE = "quote_signature"
    QUOTE_STALE = "quote_stale"
    QUOTE_SELECTION = "quote_selection"
    PCR_MISMATCH = "pcr_mismatch"
    LOG_MISMATCH = "log_mismatch"
    NO_REFERENCES = "no_references"
    NO_FIRMWARE = "no_firmware"
    UNKNOWN_BOOT_STAGE = "unknown_boot_stage"
    UNKNOWN_PINNED_KEYS = "unknown_pinned_keys"
    UNKNOWN_IMAGE = "unknown_firmware_image"
    UNKNOWN_MANIFEST = "unknown_firmware_manifest"
    WITHDRAWN_BOOT_STAGE = "withdrawn_boot_stage"
    WITHDRAWN_PINNED_KEYS = "withdrawn_pinned_keys"
    WITHDRAWN_IMAGE = "withdrawn_firmware_image"
    WITHDRAWN_MANIFEST = "withdrawn_firmware_manifest"
    MISSING_BOOT_STAGE = "missing_boot_stage"
    MISSING_PINNED_KEYS = "missing_pinned_keys"
    MISSING_IMAGE = "missing_firmware_image"
    MISSING_MANIFEST = "missing_firmware_manifest"
    MIXED_RELEASE = "mixed_release"


@dataclass(frozen=True)
class Reference:
    """A digest that devices of a model may measure, until it is withdrawn. `model` EVERY_MODEL is all."""

    model: str
    kind: Measured
    digest: str
    version: str
    withdrawn_at: datetime | None = None


@dataclass(frozen=True)
class ReferenceValues:
    """What a device that starts a release measures: SHA-256 of its image and of its signed manifest, hex."""

    image_sha256: str
    manifest_sha256: str


@dataclass(frozen=True)
class Reason:
    """Why an appraisal failed."""

    code: ReasonCode
    message: str


@dataclass(frozen=True)
class Appraisal:
    """The verdict over one piece of evidence.

    Attributes:
        good: every demanded thing was measured, and nothing that is not among the reference values.
        expires_at: how long a good verdict counts; a bad one counts until the next.
        firmware_version: the release whose image was measured, when it is known.
    """

    device_id: str
    at: datetime
    good: bool
    expires_at: datetime
    reasons: tuple[Reason, ...] = ()
    firmware_version: str | None = None
    reset_count: int = 0
    restart_count: int = 0


def is_fresh(appraisal: Appraisal | None, now: datetime) -> bool:
    """Whether an appraisal is good and has not run out."""
    return appraisal is not None and appraisal.good and now < appraisal.expires_at


def appraise(
    device_id: str,
    ak: tpm.Public,
    evidence: Evidence,
    nonce: bytes,
    references: Sequence[Reference],
    *,
    lifetime: timedelta,
    now: datetime,
) -> Appraisal:
    """Return the verdict over evidence (RFC 9334 section 8.4).

    First the quote: signed by the attestation key, over our nonce, over PCRs 8 and 9, holding the values
    handed in, to which the log leads. Only then the log: everything in it is among `references`, image and
    manifest of one release, nothing that is demanded is missing. No references refuse.

    Raises:
        InvalidInputError: quote or signature are no TPM structures.
    """
    quote = tpm.parse_quote(evidence.quote)
    reasons = _check_quote(quote, ak, evidence, nonce)
    version = None
    if not reasons:
        version, reasons = _check_log(evidence.event_log, references)
    return Appraisal(
        device_id=device_id,
        at=now,
        good=not reasons,
        expires_at=now if reasons else now + lifetime,
        reasons=tuple(reasons),
        firmware_version=version,
        reset_count=quote.clock.reset_count,
        restart_count=quote.clock.restart_count,
    )


def _check_quote(quote: tpm.Quote, ak: tpm.Public, evidence: Evidence, nonce: bytes) -> list[Reason]:
    if not tpm.verify_signature(ak.key, evidence.signature, evidence.quote):
        return [
            Reason(ReasonCode.QUOTE_SIGNATURE, "The quote is not signed by the device's attestation key.")
        ]
    if not hmac.compare_digest(quote.nonce, nonce):
        return [Reason(ReasonCode.QUOTE_STALE, "The quote is not over the nonce we gave.")]
    if quote.pcrs != QUOTED_PCRS or set(evidence.pcrs) != {str(index) for index in QUOTED_PCRS}:
        return [Reason(ReasonCode.QUOTE_SELECTION, "The quote does not cover PCRs 8 and 9 alone.")]
    values = [bytes.fromhex(evidence.pcrs[str(index)]) for index in QUOTED_PCRS]
    if not hmac.compare_digest(tpm.digest_pcrs(values), quote.digest):
        return [Reason(ReasonCode.PCR_MISMATCH, "The PCR values handed in are not those quoted.")]
    led_to = replay(evidence.event_log)
    if [led_to.get(index, bytes(32)) for index in QUOTED_PCRS] != values:
        message = "The event log does not lead to the PCR values: the boot stage was bypassed."
        return [Reason(ReasonCode.LOG_MISMATCH, message)]
    return []


def _check_log(log: Sequence[LogEntry], references: Sequence[Reference]) -> tuple[str | None, list[Reason]]:
    """Return the release that runs, when there is one, and what is wrong."""
    if not any(one.withdrawn_at is None for one in references):
        return None, [Reason(ReasonCode.NO_REFERENCES, "No reference values are known for its model.")]
    measured = [entry.content.kind for entry in log]
    if Measured.NO_FIRMWARE in measured:
        return None, [Reason(ReasonCode.NO_FIRMWARE, "The boot stage found no firmware it may start.")]
    reasons = [reason for entry in log if (reason := _find_fault(entry, references))]
    for kind in _DEMANDED:
        if (times := measured.count(kind)) != 1:
            message = f"Expected {_said(kind)} measured once, found it {times} times."
            reasons.append(Reason(ReasonCode(f"missing_{kind}"), message))
    if reasons:
        return None, reasons
    digests = {(entry.content.kind, entry.digest.hex()) for entry in log}
    image, manifest = (
        {one.version for one in references if one.kind is kind and (kind, one.digest) in digests}
        for kind in _FIRMWARE
    )
    if not image & manifest:
        message = f"Image and manifest are of different releases: {sorted(image)} and {sorted(manifest)}."
        return None, [Reason(ReasonCode.MIXED_RELEASE, message)]
    return min(image & manifest), []


def _find_fault(entry: LogEntry, references: Sequence[Reference]) -> Reason | None:
    kind, digest = entry.content.kind, entry.digest.hex()
    found = [one for one in references if (one.kind, one.digest) == (kind, digest)]
    if any(one.withdrawn_at is None for one in found):
        return None
    if found:
        message = f"The {_said(kind)} {found[0].version} was measured, which has been withdrawn."
        return Reason(ReasonCode(f"withdrawn_{kind}"), message)
    message = f"The {_said(kind)} measured, {digest[:16]}…, is no reference value."
    return Reason(ReasonCode(f"unknown_{kind}"), message)


def _said(kind: Measured) -> str:
    return kind.value.replace("_", " ")
