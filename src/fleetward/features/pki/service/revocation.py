"""What third parties are told about revocation: CRLs (RFC 5280 section 5) and OCSP (RFC 6960)."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from fleetward.base.db import Tx
from fleetward.base.errors import InvalidInputError
from fleetward.features.pki import store
from fleetward.features.pki.authority.profiles import BACKDATE, subject_key_id
from fleetward.features.pki.model import reason_code
from fleetward.features.pki.ports import CaSigner
from fleetward.features.pki.service.context import PkiContext
from fleetward.wire.der import MALFORMED
from fleetward.wire.ocsp import join_answers, split_request

CRL_LIFETIME = timedelta(hours=12)
_CRL_RENEWED_BEFORE = timedelta(hours=6)
OCSP_LIFETIME = timedelta(minutes=15)
MAX_OCSP_REQUEST_BYTES = 2 * 1024
_MAX_NONCE_BYTES = 32
_MAX_SERIAL_BITS = 159


def find_current_crl(tx: Tx, ca: CaSigner) -> bytes | None:
    """Return the last CRL unless it is due or lacks a revocation; else None.

    A certificate that its own successor superseded can wait for the next one: a fleet that renews would
    have every reader of the CRL make us sign it again.
    """
    issuer = subject_key_id(ca.certificate).hex()
    last = store.find_crl(tx, issuer)
    if last is None or tx.now > last.next_update - _CRL_RENEWED_BEFORE or store.has_unlisted(tx, issuer):
        return None
    return last.der


def get_crl(tx: Tx, ca: CaSigner) -> bytes:
    """Return the current CRL, signed now if need be. One transaction at a time signs.

    Raises:
        KeyUnavailableError: the CA key cannot be reached; the last CRL stays valid.
    """
    store.lock_crl(tx, subject_key_id(ca.certificate).hex())
    return find_current_crl(tx, ca) or _sign_crl(tx, ca)


def _sign_crl(tx: Tx, ca: CaSigner) -> bytes:
    """Return the next CRL, DER-encoded (RFC 5280 section 5).

    An entry stays until one CRL issued after its certificate's end has shown it (section 3.3).
    """
    issuer = subject_key_id(ca.certificate).hex()
    last = store.find_crl(tx, issuer)
    number = 1 if last is None else last.number + 1
    this_update, next_update = tx.now - BACKDATE, tx.now + CRL_LIFETIME
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(authority, critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    since = tx.now if last is None else last.this_update
    for entry in store.list_for_crl(tx, issuer, number=number, since=since):
        builder = builder.add_revoked_certificate(_crl_entry(entry, this_update))
    der = builder.sign(ca.private_key, hashes.SHA256()).public_bytes(Encoding.DER)
    store.update_crl(tx, issuer, store.Crl(number, tx.now, next_update, der))
    return der


def answer_ocsp(tx: Tx, context: PkiContext, unverified_request: bytes) -> bytes:
    """Return the DER answer to an OCSP request: good, revoked or unknown, signed by the issuer itself.

    A malformed request gets RFC 6960's `malformedRequest`, one about certificates of several of our CAs, for
    which none of them can speak alone, `unauthorized`. A nonce of up to 32 bytes is echoed (RFC 9654).
    """
    try:
        questions = _parse_request(unverified_request)
    except InvalidInputError:
        return malformed_ocsp_request()
    issuers = [_issuer_of(context, one.request) for one in questions]
    known = {one.certificate: one for one in issuers if one is not None}
    if len(known) > 1:
        return _unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
    ca = next(iter(known.values()), context.device_ca)
    answers = [
        _answer_one(tx, ca, one, is_ours=issuer is not None)
        for one, issuer in zip(questions, issuers, strict=True)
    ]
    if len(answers) == 1:
        return answers[0]
    return join_answers(answers, lambda said: ca.private_key.sign(said, ec.ECDSA(hashes.SHA256())))


def _issuer_of(context: PkiContext, request: ocsp.OCSPRequest) -> CaSigner | None:
    return next((one for one in context.device_cas if _is_for(request, one.certificate)), None)


def _answer_one(tx: Tx, ca: CaSigner, question: "_Question", *, is_ours: bool) -> bytes:
    request = question.request
    record = None if not is_ours else store.find_certificate(tx, request.serial_number)
    status, revoked_at, reason = ocsp.OCSPCertStatus.UNKNOWN, None, None
    if record is not None and record.revoked_at is not None:
        status, revoked_at = ocsp.OCSPCertStatus.REVOKED, record.revoked_at
        reason = reason_code(record.revocation_reason)
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
    if question.nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(question.nonce), critical=False)
    return builder.sign(ca.private_key, hashes.SHA256()).public_bytes(Encoding.DER)


def caching_of(answer: bytes, now: datetime) -> dict[str, str]:
    """Return the headers by which caches may keep an answer to a GET (RFC 5019 section 6.2).

    For a third of the time until the next update, so that nobody hears of a revocation much later through a
    cache; an answer to a nonce, and one that says nothing, is for whoever asked alone.
    """
    parsed = ocsp.load_der_ocsp_response(answer)
    if parsed.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL or len(parsed.extensions):
        return {"Cache-Control": "no-store"}
    first = next(parsed.responses)  # all of one answer are of the same time
    until, since = first.next_update_utc or now, first.this_update_utc
    kept = max(timedelta(), (until - now) / 3)
    return {
        "Cache-Control": f"max-age={int(kept.total_seconds())}, public, no-transform, must-revalidate",
        "Last-Modified": format_datetime(since, usegmt=True),
        "Expires": format_datetime(now + kept, usegmt=True),
        "ETag": f'"{hashlib.sha256(answer).hexdigest()}"',
    }


def malformed_ocsp_request() -> bytes:
    """Return the answer to what is no OCSP request, unsigned (RFC 6960 section 2.3)."""
    return _unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)


def _unsuccessful(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class _Question:
    """An OCSP request about one certificate."""

    request: ocsp.OCSPRequest
    nonce: bytes | None


def _parse_request(der: bytes) -> list[_Question]:
    """Return what is asked about each certificate; 2 kB hold some twenty."""
    if len(der) > MAX_OCSP_REQUEST_BYTES:
        raise InvalidInputError(f"OCSP request: expected at most {MAX_OCSP_REQUEST_BYTES} bytes, found more")
    return [_parse_one(one) for one in split_request(der)]


def _parse_one(der: bytes) -> _Question:
    try:
        request = ocsp.load_der_ocsp_request(der)
        digest = request.hash_algorithm.digest_size
        if {len(request.issuer_name_hash), len(request.issuer_key_hash)} != {digest}:
            raise InvalidInputError(f"OCSP request: expected hashes of {digest} bytes, found others")
        if not 0 <= request.serial_number < 1 << _MAX_SERIAL_BITS:
            raise InvalidInputError("OCSP request: expected a serial number of RFC 5280, found another")
        return _Question(request, _nonce_of(request))
    except (NotImplementedError, *MALFORMED) as error:
        raise InvalidInputError("OCSP request: expected RFC 6960's form, found something else") from error


def _is_for(request: ocsp.OCSPRequest, issuer: x509.Certificate) -> bool:
    """Whether the request asks about a certificate of `issuer` (RFC 6960 section 4.1.1)."""
    key = issuer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return (request.issuer_name_hash, request.issuer_key_hash) == (
        _digest(request.hash_algorithm, issuer.subject.public_bytes()),
        _digest(request.hash_algorithm, key),
    )


def _digest(algorithm: hashes.HashAlgorithm, content: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(content)
    return digest.finalize()


def _nonce_of(request: ocsp.OCSPRequest) -> bytes | None:
    try:
        nonce = request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        return None
    return nonce if len(nonce) <= _MAX_NONCE_BYTES else None


def _crl_entry(entry: store.RevokedEntry, this_update: datetime) -> x509.RevokedCertificate:
    """Return an entry; its date is not after the CRL's own, which is set back for clocks that are late."""
    at = min(entry.revoked_at, this_update)
    builder = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(at)
    reason = reason_code(entry.reason)
    if reason is not None:
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    return builder.build()
