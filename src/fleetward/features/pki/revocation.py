"""What third parties are told about revocation: CRLs (RFC 5280 section 5) and OCSP (RFC 6960)."""

from datetime import timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from fleetward.base.db import Tx
from fleetward.base.errors import InvalidInputError
from fleetward.features.pki import store
from fleetward.features.pki.model import REASON_FLAG, CertificateRecord
from fleetward.features.pki.ports import CaSigner
from fleetward.features.pki.profiles import BACKDATE, subject_key_id
from fleetward.features.pki.service import PkiContext

CRL_LIFETIME = timedelta(hours=12)
_CRL_RENEWED_BEFORE = timedelta(hours=6)
OCSP_LIFETIME = timedelta(minutes=15)
MAX_OCSP_REQUEST_BYTES = 2 * 1024
_MAX_NONCE_BYTES = 32


def find_current_crl(tx: Tx, ca: CaSigner) -> bytes | None:
    """Return the last CRL when nothing was revoked since and it is not due; else None."""
    issuer = subject_key_id(ca.certificate).hex()
    last = store.find_crl(tx, issuer)
    if last is None or tx.now > last.next_update - _CRL_RENEWED_BEFORE:
        return None
    revoked_at = store.last_revocation_at(tx, issuer)
    is_current = revoked_at is None or revoked_at < last.this_update
    return bytes(last.der) if is_current else None


def sign_crl(tx: Tx, ca: CaSigner) -> bytes:
    """Return the next CRL, DER-encoded. Covers unexpired certificates revoked until now (RFC 5280 section 5).

    Raises:
        KeyUnavailableError: the CA key cannot be reached; the last CRL stays valid.
    """
    issuer = subject_key_id(ca.certificate).hex()
    last = store.find_crl(tx, issuer)
    number = 1 if last is None else last.number + 1
    next_update = tx.now + CRL_LIFETIME
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(tx.now - BACKDATE)
        .next_update(next_update)
        .add_extension(authority, critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for record in store.list_revoked(tx, issuer=issuer, device_id=None, now=tx.now):
        builder = builder.add_revoked_certificate(_crl_entry(record))
    der = builder.sign(ca.private_key, hashes.SHA256()).public_bytes(Encoding.DER)
    store.put_crl(tx, issuer, number=number, next_update=next_update, der=der)
    return der


def answer_ocsp(tx: Tx, context: PkiContext, unverified_request: bytes) -> bytes:
    """Return the DER answer to an OCSP request: good, revoked or unknown, signed by the issuer itself.

    A malformed request gets RFC 6960's `malformedRequest`; a nonce of up to 32 bytes is echoed (RFC 9654).
    """
    try:
        request = _parse_request(unverified_request)
    except InvalidInputError:
        malformed = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        return malformed.public_bytes(Encoding.DER)
    ca = context.device_ca
    record = store.find_certificate(tx, request.serial_number) if _is_for(request, ca) else None
    status, revoked_at, reason = ocsp.OCSPCertStatus.UNKNOWN, None, None
    if record is not None and record.revoked_at is not None:
        status, revoked_at = ocsp.OCSPCertStatus.REVOKED, record.revoked_at
        reason = None if record.revocation_reason is None else REASON_FLAG[record.revocation_reason]
    elif record is not None:
        status = ocsp.OCSPCertStatus.GOOD
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        issuer_name_hash=request.issuer_name_hash,
        issuer_key_hash=request.issuer_key_hash,
        serial_number=request.serial_number,
        algorithm=request.hash_algorithm,
        cert_status=status,
        this_update=tx.now,
        next_update=tx.now + OCSP_LIFETIME,
        revocation_time=revoked_at,
        revocation_reason=reason,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, ca.certificate)
    nonce = _nonce_of(request)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.sign(ca.private_key, hashes.SHA256()).public_bytes(Encoding.DER)


def _parse_request(der: bytes) -> ocsp.OCSPRequest:
    if len(der) > MAX_OCSP_REQUEST_BYTES:
        raise InvalidInputError(f"OCSP request: expected at most {MAX_OCSP_REQUEST_BYTES} bytes, found more")
    try:
        request = ocsp.load_der_ocsp_request(der)
        request.hash_algorithm  # noqa: B018 - parses lazily: an unknown algorithm raises here
        _nonce_of(request)
    except (ValueError, TypeError, NotImplementedError, UnsupportedAlgorithm) as error:
        raise InvalidInputError("OCSP request: expected RFC 6960's form, found something else") from error
    return request


def _is_for(request: ocsp.OCSPRequest, ca: CaSigner) -> bool:
    """Whether the request asks about a certificate of `ca` (RFC 6960 section 4.1.1)."""
    probe = ocsp.OCSPRequestBuilder().add_certificate(
        ca.certificate, ca.certificate, request.hash_algorithm
    ).build()  # fmt: skip
    return (probe.issuer_key_hash, probe.issuer_name_hash) == (
        request.issuer_key_hash,
        request.issuer_name_hash,
    )


def _nonce_of(request: ocsp.OCSPRequest) -> bytes | None:
    try:
        nonce = request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        return None
    return nonce if len(nonce) <= _MAX_NONCE_BYTES else None


def _crl_entry(record: CertificateRecord) -> x509.RevokedCertificate:
    revoked_at = record.revoked_at
    if revoked_at is None:
        raise AssertionError(f"certificate {record.serial:x} is not revoked")
    builder = x509.RevokedCertificateBuilder().serial_number(record.serial).revocation_date(revoked_at)
    flag = None if record.revocation_reason is None else REASON_FLAG[record.revocation_reason]
    if flag is not None and flag is not x509.ReasonFlags.unspecified:  # RFC 5280: absent means unspecified
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    return builder.build()
