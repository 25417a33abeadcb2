"""Verification of chips, keys and evidence, and the appraisal of what a device runs (RFC 9334). Pure."""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from fleetward.base.errors import ConflictError, ForbiddenError
from fleetward.features.pki.model import MALFORMED
from fleetward.wire import tpm
from fleetward.wire.event_log import BOOT_PCR, FIRMWARE_PCR, LogEntry, Measured, replay
from fleetward.wire.evidence import Evidence

# TCG EK Credential Profile for TPM 2.0, section 3.2: the usage, and what the SAN says of the chip's maker.
_EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")
_ANY_USAGE = x509.ObjectIdentifier("2.5.29.37.0")
_MAKER = {
    x509.ObjectIdentifier("2.23.133.2.1"): "manufacturer",
    x509.ObjectIdentifier("2.23.133.2.2"): "model",
    x509.ObjectIdentifier("2.23.133.2.3"): "version",
}
NONCE_BYTES = 32
SECRET_BYTES = 32
CHALLENGE_LIFETIME = timedelta(minutes=5)
NONCE_LIFETIME = timedelta(minutes=2)
EVERY_MODEL = "*"
QUOTED_PCRS = (BOOT_PCR, FIRMWARE_PCR)
_FIRMWARE = (Measured.IMAGE, Measured.MANIFEST)
_DEMANDED = (Measured.BOOT_STAGE, Measured.PINNED_KEYS, *_FIRMWARE)
_MAX_EK_BYTES = 8 * 1024


class ChipRefusedError(ForbiddenError):
    """A chip, or a key said to live in one, that proves nothing; `reason` in details says why."""

    code = "chip_refused"


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
class EndorsementKey:
    """A chip as its vendor certified it. `fingerprint` is SHA-256 of the SPKI DER, hexadecimal."""

    key: tpm.EndorsementKey
    fingerprint: str


@dataclass(frozen=True)
class AttestationKey:
    """A device's activated attestation key."""

    device_id: str
    ek_fingerprint: str
    public: bytes
    activated_at: datetime

    @property
    def parsed(self) -> tpm.Public:
        return tpm.parse_public(self.public)


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


def verify_ek_chain(
    chain: Sequence[bytes], anchors: Iterable[x509.Certificate], now: datetime
) -> EndorsementKey:
    """Return the endorsement key that a vendor we trust certified.

    1. Leaf and issuers are X.509. 2. They lead to one of `anchors` by signatures valid at `now` (RFC 5280
    section 6.1; what the leaf may say is the TCG's to rule, not the web's). 3. The leaf is an endorsement
    key's, and no authority's. 4. It names the chip's maker, model and version. 5. We can challenge its key.

    Args:
        chain: DER, leaf first.
        anchors: vendors' roots, and intermediates known besides.

    Raises:
        ChipRefusedError: one of these fails.
        InvalidInputError: a kind of key we cannot challenge.
    """
    if not chain:
        raise _refused("ek_malformed", "it, found none")
    leaf, *issuers = [_load_certificate(der) for der in chain]
    known = list(anchors)
    roots = [one for one in known if one.subject == one.issuer]
    if not roots:
        raise _refused("ek_vendor_unknown", "a trusted vendor, found none yet")
    between = issuers + [one for one in known if one.subject != one.issuer]
    authorities = ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_authority_usage
    )
    builder = PolicyBuilder().store(Store(roots)).time(now)
    builder = builder.extension_policies(ca_policy=authorities, ee_policy=ExtensionPolicy.permit_all())
    try:
        builder.build_client_verifier().verify(leaf, between)
    except (VerificationError, *MALFORMED) as error:
        raise _refused("ek_vendor_unknown", "a chain to a trusted vendor, found none") from error
    return _check_ek_leaf(leaf)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate may sign others. Raises what `MALFORMED` lists."""
    return any(
        isinstance(one.value, x509.BasicConstraints) and one.value.ca for one in certificate.extensions
    )


def check_attestation_key(ak_public: bytes) -> tpm.Public:
    """Return an attestation key that can only sign what its chip says.

    Raises:
        ChipRefusedError: it is not restricted, not bound to one chip, or can decrypt.
        InvalidInputError: not a TPM2B_PUBLIC of a P-256 or RSA 2048 key.
    """
    public = tpm.parse_public(ak_public)
    demanded = tpm.AK_ATTRIBUTES
    algorithm = tpm.ALG_ECDSA if isinstance(public.key, ec.EllipticCurvePublicKey) else tpm.ALG_RSASSA
    is_bound = public.attributes & demanded == demanded and not public.attributes & tpm.DECRYPT
    if not is_bound or public.scheme != (algorithm, tpm.ALG_SHA256):
        raise ChipRefusedError(
            "attestation key: expected a restricted signing key of one chip, found another",
            hint="It must be fixed to chip and parent, made in it, restricted, and sign with SHA-256.",
            reason="ak_unrestricted",
        )
    return public


def verify_key_certification(
    ak: tpm.Public, key: ec.EllipticCurvePublicKey, certify_info: bytes, signature: bytes, nonce: bytes
) -> None:
    """Pass when the chip of `ak` says that `key` was born in it and never leaves it.

    1. Signed by the attestation key. 2. Over our nonce. 3. The name certified is that of `key` made by our
    template, which fixes its attributes.

    Raises:
        ChipRefusedError: one of these fails.
        InvalidInputError: malformed.
    """
    statement = tpm.parse_certify(certify_info)
    if not tpm.verify_signature(ak.key, signature, certify_info):
        raise _not_certified("certify_signature", "the attestation key's signature")
    if not hmac.compare_digest(statement.nonce, nonce):
        raise _not_certified("certify_stale", "our nonce")
    if not hmac.compare_digest(statement.name, tpm.device_key_name(key)):
        raise _not_certified("certify_other_key", "the key of the request, made by our template")


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


def hash_secret(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


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


def _load_certificate(der: bytes) -> x509.Certificate:
    if len(der) > _MAX_EK_BYTES:
        raise _refused("ek_malformed", f"at most {_MAX_EK_BYTES} bytes, found {len(der)}")
    try:
        return x509.load_der_x509_certificate(der)
    except MALFORMED as error:
        raise _refused("ek_malformed", "X.509, found something else") from error


def _check_authority_usage(
    _policy: Policy, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None
) -> None:
    """Vendors restrict their CAs to endorsement keys, where the web's rules want clientAuth."""
    if usage is not None and not {_EK_USAGE, _ANY_USAGE} & set(usage):
        raise ValueError("authority for other certificates than endorsement keys")


def _check_ek_leaf(leaf: x509.Certificate) -> EndorsementKey:
    try:
        extensions, key = leaf.extensions, leaf.public_key()
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (x509.ExtensionNotFound, *MALFORMED) as error:
        raise _refused("ek_malformed", "its usage and its chip named, found one missing") from error
    if is_authority(leaf) or _EK_USAGE not in usage:
        raise _refused("ek_other_usage", "one of an endorsement key, found another")
    said = {attribute.oid for name in names.get_values_for_type(x509.DirectoryName) for attribute in name}
    missing = [what for oid, what in _MAKER.items() if oid not in said]
    if missing:
        raise _refused("ek_malformed", f"the chip's maker named, found no {' and no '.join(missing)}")
    return EndorsementKey(tpm.check_endorsement_key(key), hashlib.sha256(spki).hexdigest())


def _refused(reason: str, expected: str) -> ChipRefusedError:
    return ChipRefusedError(f"endorsement key certificate: expected {expected}", reason=reason)


def _not_certified(reason: str, expected: str) -> ChipRefusedError:
    return ChipRefusedError(f"key certification: expected {expected}, found another", reason=reason)
