"""Certificates as values: who stands in them, what a request may ask, what one proves. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleetward.base.errors import InvalidInputError, UnauthenticatedError
from fleetward.base.ids import parse_device_id
from fleetward.wire.der import MALFORMED, ends_whole

MAX_CERTIFICATE_BYTES = 16 * 1024
# The one in use, and the last three of a device that renews and does not connect.
MAX_LIVE_CERTIFICATES = 4


class CsrRefusedError(InvalidInputError):
    """A certificate request we will not sign."""

    code = "csr_refused"


class CertificateRefusedError(UnauthenticatedError):
    """A client certificate that proves nothing; `reason` in details says why."""

    code = "certificate_refused"


MAX_NOTE_CHARS = 200
_SERIAL_CHARS = 40  # RFC 5280 section 4.1.2.2: 20 octets


class RevocationReason(StrEnum):
    """Why a certificate was taken back (RFC 5280 section 5.3.1)."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key_compromise"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation_of_operation"


REASON_FLAG = {
    RevocationReason.UNSPECIFIED: x509.ReasonFlags.unspecified,
    RevocationReason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    RevocationReason.SUPERSEDED: x509.ReasonFlags.superseded,
    RevocationReason.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
}


def reason_code(reason: RevocationReason | None) -> x509.ReasonFlags | None:
    """Return the reason as others are told: `unspecified` is rather left out (RFC 5280 section 5.3.1)."""
    return None if reason in (None, RevocationReason.UNSPECIFIED) else REASON_FLAG[reason]


@dataclass(frozen=True)
class DeviceCertificate:
    """A verified client certificate of a device.

    Attributes:
        is_successor: whether earlier ones of the device are live still, which this one now replaces.
    """

    device_id: str
    serial: int
    not_before: datetime
    not_after: datetime
    certificate: x509.Certificate
    is_successor: bool = False


@dataclass(frozen=True)
class Superseded:
    """A live certificate of a device that has connected with a later one.

    Attributes:
        by: the serial of the later one.
    """

    device_id: str
    serial: int
    by: int


@dataclass(frozen=True)
class CertificateRecord:
    """A certificate we issued, as remembered.

    Attributes:
        revocation_note: why it was revoked, in the words of whoever did it.
    """

    serial: int
    device_id: str
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    revoked_at: datetime | None
    revocation_reason: RevocationReason | None
    revocation_note: str | None = None

    def is_live(self, now: datetime) -> bool:
        return self.revoked_at is None and now <= self.not_after


@dataclass(frozen=True)
class EndingCertificate:
    """The certificate of a device that ends last, and ends too soon or has ended."""

    device_id: str
    not_after: datetime


def surplus_of(live: Sequence[int], in_use: int | None) -> list[int]:
    """Return which of a device's live serials are too many, given in the order of their issue.

    The oldest stays, for it may be the one in use: whatever came before that was revoked when it connected.
    The newest stay, for one of them is what the device holds if it holds any of them.
    """
    newest = live[-(MAX_LIVE_CERTIFICATES - 1) :]
    return [serial for serial in live[1:] if serial not in newest and serial != in_use]


def render_spiffe_id(trust_domain: str, device_id: str) -> str:
    """Return the URI that names a device in its certificate (SPIFFE-ID section 2)."""
    return f"spiffe://{trust_domain}/device/{device_id}"


def check_csr(csr: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    """Return the key of a request that proves possession of it.

    What else the request asks for is not heard: the profile alone says what stands in a certificate. Whether
    asking is refused is enrollment's to say.

    Raises:
        CsrRefusedError: not P-256, or not signed by its key.
    """
    try:
        key = csr.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise CsrRefusedError(
                "certificate request: expected a P-256 key, found another kind", reason="key_type"
            )
        is_proven = csr.is_signature_valid
    except MALFORMED as error:
        raise CsrRefusedError(
            "certificate request: expected a key and a signature we know, found another algorithm",
            reason="key_type",
        ) from error
    if not is_proven:
        raise CsrRefusedError(
            "certificate request: expected it signed by its own key, found it is not", reason="not_proven"
        )
    return key


def identify_device(trust_domain: str, certificate: x509.Certificate) -> str:
    """Return the device named by a certificate's one SAN URI.

    Raises:
        CertificateRefusedError: no SAN, another trust domain, or more than one name.
    """
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *MALFORMED) as error:
        raise _refused("certificate_malformed", "one SAN with the device's name, found none") from error
    names = list(san)
    prefix = render_spiffe_id(trust_domain, "")
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise _refused("certificate_malformed", f"one SAN URI, found {len(names)} names")
    if not names[0].value.startswith(prefix):
        raise _refused("certificate_other_domain", f"a name under {prefix}, found another")
    try:
        return parse_device_id(names[0].value[len(prefix) :])
    except InvalidInputError as error:
        raise _refused("certificate_malformed", "a device id in its SAN, found something else") from error


def verify_issuer(certificate: x509.Certificate, issuers: dict[bytes, x509.Certificate]) -> None:
    """Pass when one of our device CAs signed a certificate, at whatever time (RFC 5280 section 6.1).

    The first half of what a device's certificate proves, for our two-level hierarchy; `verify_use` is the
    other. Revocation is the caller's.

    Args:
        issuers: our device CAs by subject key identifier, themselves verified.

    Raises:
        CertificateRefusedError: none of them did.
    """
    try:
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        issuer = issuers.get(authority.key_identifier or b"")
        if issuer is None:
            raise _refused("certificate_unknown_ca", "an issuer of ours, found another")
        certificate.verify_directly_issued_by(issuer)
    except x509.ExtensionNotFound as error:
        raise _refused("certificate_unknown_ca", "an issuer of ours, found none named") from error
    except (InvalidSignature, *MALFORMED) as error:
        raise _refused("certificate_unknown_ca", "its issuer's signature, found another") from error


def verify_use(certificate: x509.Certificate, trust_domain: str, now: datetime) -> DeviceCertificate:
    """Return what a certificate that passed `verify_issuer` proves now.

    1. `now` is within its validity. 2. It is for client authentication and no CA. 3. Its SAN names a device
    of our trust domain.

    Raises:
        CertificateRefusedError: one of these fails.
    """
    if now > certificate.not_valid_after_utc:
        raise _refused("certificate_expired", f"it valid at {now:%Y-%m-%dT%H:%M:%SZ}, found it expired")
    if now < certificate.not_valid_before_utc:
        raise _refused("certificate_not_yet_valid", f"it valid at {now:%Y-%m-%dT%H:%M:%SZ}, found it not yet")
    _check_purpose(certificate)
    return DeviceCertificate(
        device_id=identify_device(trust_domain, certificate),
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        certificate=certificate,
    )


def parse_certificate(der: bytes) -> x509.Certificate:
    """Return a DER certificate of at most 16 KiB whose every part parses. Raises CertificateRefusedError."""
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise _refused("certificate_malformed", f"at most {MAX_CERTIFICATE_BYTES} bytes, found {len(der)}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        # These parse lazily: a malformed one shows here, not in the middle of a decision.
        certificate.public_key()
        tuple(certificate.extensions)
    except MALFORMED as error:
        raise _refused("certificate_malformed", "X.509, found something else") from error
    if not ends_whole(der, certificate.signature):
        raise _refused("certificate_malformed", "X.509 in DER, found another encoding")
    return certificate


def _check_purpose(certificate: x509.Certificate) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *MALFORMED) as error:
        raise _refused("certificate_malformed", "key usage and constraints, found one missing") from error
    if is_ca or list(usage) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        raise _refused("certificate_wrong_purpose", "one for client authentication alone, found another")


def _refused(reason: str, expected: str) -> CertificateRefusedError:
    return CertificateRefusedError(
        f"client certificate: expected {expected}", reason=reason, challenge="Mutual"
    )


def parse_serial(text: str) -> int:
    """Return a serial number from hexadecimal, with or without colons. Raises InvalidInputError."""
    plain = text.replace(":", "").lower()
    if not 1 <= len(plain) <= _SERIAL_CHARS or set(plain) - set("0123456789abcdef"):
        raise InvalidInputError(
            f"serial: expected up to {_SERIAL_CHARS} hexadecimal digits, found {text[:60]!r}"
        )
    return int(plain, 16)
