"""Bodies of EST, Enrollment over Secure Transport (RFC 7030, clarified by RFC 8951)."""

import base64
import binascii
import re
import string
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from fleetward.base.errors import InvalidInputError, TooLargeError
from fleetward.wire.der import MALFORMED, ends_whole

PATH = "/.well-known/est"
CSR_TYPE = "application/pkcs10"
CERTIFICATES_TYPE = "application/pkcs7-mime; smime-type=certs-only"
CSR_ATTRIBUTES_TYPE = "application/csrattrs"
# RFC 7030 section 4.1.3; strongSwan insists on it.
TRANSFER_ENCODING = ("Content-Transfer-Encoding", "base64")

MAX_CSR_BYTES = 16 * 1024
MAX_CERTIFICATES_BYTES = 256 * 1024
_MALFORMED = (InvalidSignature, *MALFORMED)
# ECDSA's AlgorithmIdentifier with NULL parameters: RFC 5758 section 3.2 forbids it, tpm2-openssl writes it.
_NULL_PARAMETERS = re.compile(rb"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03[\x01-\x04]\x05\x00")
_READS_LINES = "Cisco EST client"
_PEM_BEGINS = b"-----BEGIN "
_WHITE = string.whitespace.encode()

_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_P256 = "1.2.840.10045.3.1.7"
_ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
_SEQUENCE, _SET, _OBJECT_IDENTIFIER = 0x30, 0x31, 0x06
_MAX_SHORT_LENGTH = 0x7F


def parse_csr(body: bytes) -> x509.CertificateSigningRequest:
    """Return the PKCS#10 request of an enroll body: base64 of DER, line breaks allowed (RFC 8951 section 3).

    The proof of possession is checked here: no unsigned request leaves this function.

    Raises:
        TooLargeError: over 16 kB.
        InvalidInputError: not base64, not PKCS#10, or not signed by its own key.
    """
    return parse_csr_der(_decode(body, what="certificate request", max_bytes=MAX_CSR_BYTES))


def parse_csr_der(der: bytes) -> x509.CertificateSigningRequest:
    """As `parse_csr`, for bare DER."""
    if len(der) > MAX_CSR_BYTES:
        raise TooLargeError(f"certificate request: expected at most {MAX_CSR_BYTES} bytes, found {len(der)}")
    try:
        csr = x509.load_der_x509_csr(der)
        is_signed = csr.is_signature_valid
        # Extensions parse lazily: a malformed one shows here, not in the middle of a decision.
        tuple(csr.extensions)
        is_der = ends_whole(der, csr.signature)
    except _MALFORMED as error:
        if _NULL_PARAMETERS.search(der):
            raise InvalidInputError(
                "certificate request: expected an ECDSA signature algorithm without parameters, found NULL",
                hint="Some TPM providers write it so; sign the request through PKCS#11 or the TSS instead.",
            ) from error
        raise InvalidInputError("certificate request: expected PKCS#10, found something else") from error
    if not is_der:
        raise InvalidInputError("certificate request: expected PKCS#10 in DER, found another encoding")
    if not is_signed:
        raise InvalidInputError(
            "certificate request: expected a signature by the key it asks for, found none that verifies",
            hint="The proof of possession failed; sign the request with the private key it names.",
        )
    return csr


def parse_idevid(der: bytes) -> x509.Certificate:
    """Return the certificate a factory gave a device. TLS took it already, and takes more than we do.

    Raises:
        InvalidInputError: not X.509 in DER.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.public_key()  # parses lazily
    except _MALFORMED as error:
        raise InvalidInputError("IDevID: expected X.509 in DER, found another encoding") from error
    return certificate


def render_csr(der: bytes) -> bytes:
    """Return the body of simpleenroll and simplereenroll: base64 in one line."""
    return base64.b64encode(der)


def render_certificates(certificates: Sequence[x509.Certificate], reader: str = "") -> bytes:
    """Return a certs-only PKCS#7 in base64.

    No form suits all: strongSwan refuses line breaks, and Cisco's libest, whose `User-Agent` says that it is,
    reads by OpenSSL, which takes lines of at most 76 characters.
    """
    der = pkcs7.serialize_certificates(list(certificates), Encoding.DER)
    return base64.encodebytes(der) if reader.startswith(_READS_LINES) else base64.b64encode(der)


def parse_certificates(body: bytes) -> list[x509.Certificate]:
    """Return the certificates of a certs-only PKCS#7 body, in its order; at least one.

    Raises:
        TooLargeError: over 256 kB.
        InvalidInputError: not base64, not PKCS#7, or without certificates.
    """
    der = _decode(body, what="EST certificates", max_bytes=MAX_CERTIFICATES_BYTES)
    try:
        found = pkcs7.load_der_pkcs7_certificates(der)
    except _MALFORMED as error:
        raise InvalidInputError("EST certificates: expected PKCS#7, found something else") from error
    if not found:
        raise InvalidInputError("EST certificates: expected at least one, found none")
    return found


def render_csr_attributes() -> bytes:
    """Return what we ask of a request: a P-256 key, ECDSA with SHA-256 (RFC 7030 section 4.5.2)."""
    key = _tlv(_SEQUENCE, _oid(_EC_PUBLIC_KEY) + _tlv(_SET, _oid(_P256)))
    return base64.b64encode(_tlv(_SEQUENCE, key + _oid(_ECDSA_WITH_SHA256)))


def _decode(body: bytes, *, what: str, max_bytes: int) -> bytes:
    if len(body) > 2 * max_bytes:
        raise TooLargeError(f"{what}: expected at most {max_bytes} bytes, found more")
    if body.lstrip()[: len(_PEM_BEGINS)] == _PEM_BEGINS:
        raise InvalidInputError(
            f"{what}: expected base64 of DER, found PEM",
            hint="Leave out first and last line, or convert: openssl req -in REQUEST -outform DER | base64",
        )
    try:
        return base64.b64decode(body.translate(None, _WHITE), validate=True)
    except binascii.Error as error:
        raise InvalidInputError(f"{what}: expected base64, found something else") from error


def _tlv(tag: int, content: bytes) -> bytes:
    if len(content) > _MAX_SHORT_LENGTH:
        raise ValueError("only short DER lengths are written here")
    return bytes((tag, len(content))) + content


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytearray([40 * first + second])
    for arc in rest:
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(0x80 | arc & 0x7F)
        encoded += bytes(reversed(septets))
    return _tlv(_OBJECT_IDENTIFIER, bytes(encoded))
