"""Who may get a certificate, for which key, and on whose word. Pure."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from fleetward.base.errors import ConflictError, ForbiddenError, InvalidInputError, UnauthenticatedError
from fleetward.base.ids import render_duration
from fleetward.features.devices.model import Device, HardwareIdentity, HardwareKind, KeyTier
from fleetward.features.pki.model import CsrRefusedError
from fleetward.wire.der import MALFORMED
from fleetward.wire.enroll import Purpose

DEFAULT_CLAIM_LIFETIME = timedelta(hours=1)
MIN_CLAIM_LIFETIME = timedelta(seconds=10)
MAX_CLAIM_LIFETIME = timedelta(days=30)
CLAIM_BITS = 192
BASIC_CHALLENGE = 'Basic realm="fleetward", charset="UTF-8"'
KEPT_CLAIMS = timedelta(days=90)

# What a request may carry beside the key without being asked for; all else we set ourselves.
_MAX_SUBJECT_ATTRIBUTES = 8


class Lane(StrEnum):
    """How a device came to its certificate."""

    CLAIM = "claim"
    IDEVID = "idevid"
    LISTED_KEY = "listed-key"
    CERTIFICATE = "certificate"
    TPM_ENROLL = "tpm-enroll"
    TPM_RENEW = "tpm-renew"
    TPM_RECOVER = "tpm-recover"

    @property
    def is_renewal(self) -> bool:
        return self in (Lane.CERTIFICATE, Lane.TPM_RENEW)

    @property
    def said(self) -> str:
        """What the device was believed by, in words."""
        return _LANE_SAID[self]


class EnrollmentRefusedError(ForbiddenError):
    """This device may have no certificate; details hold the `reason`."""

    code = "enrollment_refused"


class ClaimRefusedError(UnauthenticatedError):
    """A claim token that does not hold: `unknown`, `used`, `expired`, `withdrawn` or `foreign`."""

    code = "claim_refused"


class EnrollmentConflictError(ConflictError):
    """The device is in no state for this; details hold the `reason`."""

    code = "enrollment_conflict"


@dataclass(frozen=True)
class Claim:
    """A fresh claim: the one time its token is seen."""

    device_id: str
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class ClaimRecord:
    """A claim as stored.

    Attributes:
        token_hash: SHA-256 of the token, hex.
        used_by: fingerprint of the key it was used for.
    """

    token_hash: str
    device_id: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    used_by: str | None = None
    withdrawn_at: datetime | None = None


@dataclass(frozen=True)
class Factory:
    """A factory whose shipments are believed.

    Attributes:
        public_key: SubjectPublicKeyInfo, PEM.
        idevid_authorities: certificates of the CAs of its devices' IDevIDs, PEM, "" for none.
    """

    name: str
    public_key: str
    idevid_authorities: str = ""


@dataclass(frozen=True)
class Attempt:
    """The TPM lane between its two requests.

    Attributes:
        id: the challenge's id.
        claim_hash: of the claim that authorises it; None when the shipment lists the chip.
    """

    id: str
    device_id: str
    purpose: Purpose
    ek_fingerprint: str
    claim_hash: str | None
    expires_at: datetime


def parse_factory(name: str, pem: str, idevid_authorities: str = "") -> Factory:
    """Return a factory from the PEM it publishes: its public key, then perhaps its IDevID authorities."""
    mark = "-----BEGIN CERTIFICATE-----"
    public_key, begin, rest = pem.partition(mark)
    return Factory(name, public_key.strip() + "\n", (begin + rest + idevid_authorities).strip())


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def fingerprint_of(key: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo, hex."""
    return hashlib.sha256(spki_of(key)).hexdigest()


def spki_of(key: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """Return the SubjectPublicKeyInfo, DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_claim_lifetime(lifetime: timedelta) -> None:
    """Pass when a claim may live that long.

    Raises:
        InvalidInputError: under 10 s or over 30 d.
    """
    if not MIN_CLAIM_LIFETIME <= lifetime <= MAX_CLAIM_LIFETIME:
        raise InvalidInputError(
            f"claim lifetime: expected {render_duration(MIN_CLAIM_LIFETIME)} to "
            f"{render_duration(MAX_CLAIM_LIFETIME)}, found {render_duration(lifetime)}"
        )


def verify_claim(record: ClaimRecord | None, token: str, device_id: str, now: datetime) -> ClaimRecord:
    """Return the claim whose token was made for this device; it may have been used already.

    Raises:
        ClaimRefusedError: unknown, for another device, withdrawn or expired; the token cannot be guessed, so
            its holder is told which.
    """
    if record is None or not hmac.compare_digest(record.token_hash, hash_token(token)):
        raise claim_refused(device_id, "unknown", "a claim made for this device")
    if record.device_id != device_id:
        raise claim_refused(device_id, "foreign", "a claim made for this device")
    if record.used_at is None and record.withdrawn_at is not None:
        raise claim_refused(device_id, "withdrawn", "the latest claim")
    if record.used_at is None and now >= record.expires_at:
        raise claim_refused(device_id, "expired", "a claim in its time")
    return record


def verify_request(
    csr: x509.CertificateSigningRequest, device_id: str, identity_uri: str
) -> ec.EllipticCurvePublicKey:
    """Return the key of a request that asks for nothing but a device certificate in this device's name.

    1. Its key is P-256. 2. The subject names this device or nothing. 3. So does the SubjectAltName.
    4. It asks for no CA. That the key signed the request was seen to where it was parsed.

    Args:
        identity_uri: the device's SPIFFE id, the only URI it may ask for.

    Raises:
        CsrRefusedError: it asks for more; details hold the `reason`.
    """
    key = csr.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _request_refused(device_id, "key_type", "a P-256 key", "another kind")
    _check_subject(csr.subject, device_id)
    try:
        requested = list(csr.extensions)
    except MALFORMED as error:
        raise _request_refused(device_id, "malformed", "readable extensions", "others") from error
    for extension in requested:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            _check_alternative_names(value, device_id, identity_uri)
        elif isinstance(value, x509.BasicConstraints) and value.ca:
            raise _request_refused(device_id, "ca", "a device certificate", "one for a CA")
        elif isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
            raise _request_refused(device_id, "ca", "a device's key usage", "that of a CA")
    return key


def tier_on_word_of_shipment(hardware: HardwareIdentity | None, lane: Lane, key_fingerprint: str) -> KeyTier:
    """Return the tier a first key is worth without a TPM's proof.

    An IDevID, or the very key its factory listed, vouches for a secure element; a claim for no key at all.
    """
    if lane is Lane.IDEVID:
        return KeyTier.PKCS11
    if hardware == HardwareIdentity(HardwareKind.CSR_KEY, key_fingerprint):
        return KeyTier.PKCS11
    return KeyTier.SOFTWARE


def check_may_enroll(device: Device) -> None:
    """Pass when the device's life goes on.

    Raises:
        EnrollmentRefusedError: it is revoked or retired.
    """
    if device.has_ended:
        raise EnrollmentRefusedError(
            f"device {device.id}: expected one in service, found it {device.state}",
            reason=f"device_{device.state.value}",
        )


def check_may_renew_by_est(device: Device) -> None:
    """Pass when EST may renew this device's certificate.

    Raises:
        EnrollmentConflictError: its key is proven to live in a TPM, which EST cannot prove of the new one.
    """
    if device.tier is KeyTier.TPM:
        raise EnrollmentConflictError(
            f"device {device.id}: expected proof that the new key lives in its TPM, found plain EST",
            hint="Renew by POST /v1/enroll/tpm with purpose renew.",
            reason="lower_tier",
        )


def _check_subject(subject: x509.Name, device_id: str) -> None:
    attributes = list(subject)
    if len(attributes) > _MAX_SUBJECT_ATTRIBUTES:
        raise _request_refused(device_id, "subject", "a short subject", f"{len(attributes)} attributes")
    for attribute in attributes:
        names_a_device = attribute.oid in (NameOID.COMMON_NAME, NameOID.SERIAL_NUMBER)
        if names_a_device and attribute.value != device_id:
            raise _request_refused(device_id, "name", "its own name in the subject", "another's")


def _check_alternative_names(names: x509.SubjectAlternativeName, device_id: str, identity_uri: str) -> None:
    for name in names:
        is_own = (isinstance(name, x509.UniformResourceIdentifier) and name.value == identity_uri) or (
            isinstance(name, x509.DNSName) and name.value == device_id
        )
        if not is_own:
            raise _request_refused(device_id, "name", "its own name in the SubjectAltName", "another's")


def claim_refused(device_id: str, reason: str, expected: str) -> ClaimRefusedError:
    """Return the refusal of a claim for one of the reasons of `ClaimRefusedError`."""
    return ClaimRefusedError(
        f"claim of {device_id}: expected {expected}, found one {_SAID[reason]}",
        hint="Ask the operator for a new claim: fleetward device claim ID.",
        reason=reason,
        challenge=BASIC_CHALLENGE,
    )


_LANE_SAID = {
    Lane.CLAIM: "its operator's claim",
    Lane.IDEVID: "its IDevID",
    Lane.LISTED_KEY: "its factory's word",
    Lane.CERTIFICATE: "its current certificate",
    Lane.TPM_ENROLL: "its chip",
    Lane.TPM_RENEW: "its chip and current certificate",
    Lane.TPM_RECOVER: "its chip and good evidence",
}
_SAID = {
    "unknown": "unknown here",
    "foreign": "made for another device",
    "used": "used already",
    "withdrawn": "withdrawn for a newer one",
    "expired": "expired",
}


def _request_refused(device_id: str, reason: str, expected: str, found: str) -> CsrRefusedError:
    return CsrRefusedError(
        f"certificate request of {device_id}: expected {expected}, found {found}", reason=reason
    )
