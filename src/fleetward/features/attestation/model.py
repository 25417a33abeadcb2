"""Verification of chips, keys and evidence, and the appraisal of what a device runs (RFC 9334). Pure."""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from fleetward.base.errors import ForbiddenError, InvalidInputError
from fleetward.wire import tpm
from fleetward.wire.event_log import BOOT_PCR, FIRMWARE_PCR, LogEntry, Measured, replay
from fleetward.wire.evidence import Evidence

# TCG EK Credential Profile for TPM 2.0, section 3.5.8: extended key usage tcg-kp-EKCertificate.
_EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")
NONCE_BYTES = 32
SECRET_BYTES = 32
CHALLENGE_LIFETIME = timedelta(minutes=5)
NONCE_LIFETIME = timedelta(minutes=2)
QUOTED_PCRS = (BOOT_PCR, FIRMWARE_PCR)
_DEMANDED = (Measured.BOOT_STAGE, Measured.PINNED_KEYS, Measured.IMAGE, Measured.MANIFEST)
_MAX_EK_BYTES = 8 * 1024

EkKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class ChipRefusedError(ForbiddenError):
    """A chip, or a key said to live in one, that proves nothing; `reason` in details says why."""

    code = "chip_refused"


@dataclass(frozen=True)
class EndorsementKey:
    """A chip as its vendor certified it. `fingerprint` is SHA-256 of the SPKI DER, hexadecimal."""

    key: EkKey
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
    """A digest that a model's devices may measure. `model` "*" holds for all models."""

    model: str
    kind: Measured
    digest: str
    version: str


@dataclass(frozen=True)
class ReferenceValues:
    """What a device that starts a release measures: SHA-256 of its image and of its signed manifest, hex."""

    image_sha256: str
    manifest_sha256: str


@dataclass(frozen=True)
class Reason:
    """Why an appraisal failed."""

    code: str
    message: str


@dataclass(frozen=True)
class Appraisal:
    """The verdict over one piece of evidence.

    Attributes:
        good: every demanded thing was measured, and nothing that is not among the reference values.
        expires_at: how long a good verdict counts.
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

    1. The leaf leads to one of `anchors` by valid signatures (RFC 5280 section 6.1; the leaf's own extensions
    are the TCG's, not the web's). 2. The leaf says it is an endorsement key. 3. Its key is RSA or P-256.

    Args:
        chain: DER, leaf first.
        anchors: vendors' roots, and intermediates known besides.

    Raises:
        ChipRefusedError: one of these fails.
    """
    try:
        leaf, *issuers = [x509.load_der_x509_certificate(der[:_MAX_EK_BYTES]) for der in chain]
    except ValueError as error:
        raise _refused(
            "ek_malformed", "endorsement key certificate: expected X.509, found something else"
        ) from error
    known = list(anchors)
    roots = [one for one in known if one.subject == one.issuer]
    if not roots:
        raise _refused(
            "ek_vendor_unknown", "endorsement key certificate: expected a trusted vendor, found none yet"
        )
    between = issuers + [one for one in known if one.subject != one.issuer]
    policies = {"ca_policy": ExtensionPolicy.webpki_defaults_ca(), "ee_policy": ExtensionPolicy.permit_all()}
    verifier = (
        PolicyBuilder().store(Store(roots)).time(now).extension_policies(**policies).build_client_verifier()
    )
    try:
        verifier.verify(leaf, between)
    except (VerificationError, ValueError) as error:
        raise _refused(
            "ek_vendor_unknown",
            "endorsement key certificate: expected a chain to a trusted vendor, found none",
        ) from error
    return _check_ek_leaf(leaf)


def check_attestation_key(ak_public: bytes) -> tpm.Public:
    """Return an attestation key that can only sign what its chip says.

    Raises:
        ChipRefusedError: it is not restricted, not bound to one chip, or can decrypt.
        InvalidInputError: not a TPM2B_PUBLIC of a P-256 key.
    """
    public = tpm.parse_public(ak_public)
    demanded = tpm.AK_ATTRIBUTES
    if public.attributes & demanded != demanded or public.attributes & tpm.DECRYPT:
        raise _refused(
            "ak_unrestricted", "attestation key: expected a restricted signing key of one chip, found another"
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
        raise _refused(
            "certify_signature", "key certification: expected the attestation key's signature, found another"
        )
    if not hmac.compare_digest(statement.nonce, nonce):
        raise _refused("certify_stale", "key certification: expected our nonce, found another")
    if not hmac.compare_digest(statement.name, tpm.device_key_name(key)):
        raise _refused(
            "certify_other_key", "key certification: expected the key of the request, found another"
        )


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
        expires_at=now + lifetime,
        reasons=tuple(reasons),
        firmware_version=version,
        reset_count=quote.clock.reset_count,
        restart_count=quote.clock.restart_count,
    )


def hash_secret(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _check_quote(quote: tpm.Quote, ak: tpm.Public, evidence: Evidence, nonce: bytes) -> list[Reason]:
    if not tpm.verify_signature(ak.key, evidence.signature, evidence.quote):
        return [Reason("quote_signature", "The quote is not signed by the device's attestation key.")]
    if not hmac.compare_digest(quote.nonce, nonce):
        return [Reason("quote_stale", "The quote is not over the nonce we gave.")]
    if quote.pcrs != QUOTED_PCRS or set(evidence.pcrs) != {str(index) for index in QUOTED_PCRS}:
        return [Reason("quote_selection", f"The quote does not cover PCRs {QUOTED_PCRS} alone.")]
    values = [bytes.fromhex(evidence.pcrs[str(index)]) for index in QUOTED_PCRS]
    if not hmac.compare_digest(tpm.digest_pcrs(values), quote.digest):
        return [Reason("pcr_mismatch", "The PCR values handed in are not those quoted.")]
    led_to = replay(evidence.event_log)
    if [led_to.get(index, bytes(32)) for index in QUOTED_PCRS] != values or set(led_to) - set(QUOTED_PCRS):
        return [
            Reason(
                "log_mismatch", "The event log does not lead to the PCR values: the boot stage was bypassed."
            )
        ]
    return []


def _check_log(log: Sequence[LogEntry], references: Sequence[Reference]) -> tuple[str | None, list[Reason]]:
    reasons, versions = [], []
    allowed = {(one.kind, one.digest): one.version for one in references}
    for entry in log:
        kind, digest = entry.content.kind, entry.digest.hex()
        if (kind, digest) not in allowed:
            reasons.append(
                Reason(
                    f"unknown_{kind.value}", f"Measured {kind.value} {digest[:16]}… is no reference value."
                )
            )
        elif kind in (Measured.IMAGE, Measured.MANIFEST):
            versions.append(allowed[kind, digest])
    found = [entry.content.kind for entry in log]
    for kind in _DEMANDED:
        if (times := found.count(kind)) != 1:
            message = f"Expected {kind.value} measured once, found it {times} times."
            reasons.append(Reason(f"missing_{kind.value}", message))
    if len(set(versions)) > 1:
        reasons.append(Reason("mixed_release", f"Image and manifest are of different releases: {versions}."))
    return (versions[0] if len(set(versions)) == 1 else None), reasons


def _check_ek_leaf(leaf: x509.Certificate) -> EndorsementKey:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise _refused(
            "ek_malformed", "endorsement key certificate: expected its usage named, found none"
        ) from error
    if _EK_USAGE not in usage:
        raise _refused(
            "ek_malformed", "endorsement key certificate: expected one of an endorsement key, found another"
        )
    key = leaf.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise InvalidInputError("endorsement key: expected RSA or P-256, found another kind")
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return EndorsementKey(key, hashlib.sha256(spki).hexdigest())


def _refused(reason: str, message: str) -> ChipRefusedError:
    return ChipRefusedError(message, reason=reason)
