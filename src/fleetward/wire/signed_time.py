"""Signed time: how a device without a clock learns the time from a server it has pinned.

The answer binds a nonce of the device, so it cannot be replayed. The signer's chain is verified at the very
time it states: the device's own clock has no say, and a signer cannot state a time outside its certificate.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from msgspec import Meta

from fleetward.base.clock import parse_time, render_time
from fleetward.base.errors import InvalidInputError, TooLargeError
from fleetward.wire.der import MALFORMED

PATH = "/v1/time"
MIN_NONCE_CHARS, MAX_NONCE_CHARS = 16, 128
MAX_BODY_BYTES = 32 * 1024
_CONTEXT = b"fleetward signed time 1\n"
_MAX_CHAIN = 4


class UntrustedTimeError(InvalidInputError):
    """A statement of the time that is not by a signer we trust, or not for our nonce."""

    code = "untrusted_time"


class _Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    time: Annotated[str, Meta(max_length=40)]
    nonce: Annotated[str, Meta(max_length=MAX_NONCE_CHARS)]
    signature: Annotated[bytes, Meta(max_length=512)]
    certificates: Annotated[
        tuple[Annotated[bytes, Meta(max_length=8192)], ...], Meta(min_length=1, max_length=_MAX_CHAIN)
    ]


def new_nonce() -> str:
    return secrets.token_urlsafe(24)


def parse_nonce(text: str) -> str:
    """Return a nonce of 16 to 128 URL-safe characters.

    Raises:
        InvalidInputError: shorter, longer or with other characters.
    """
    is_literal = all(c.isascii() and (c.isalnum() or c in "-_") for c in text)
    if not (MIN_NONCE_CHARS <= len(text) <= MAX_NONCE_CHARS and is_literal):
        raise InvalidInputError(
            f"nonce: expected {MIN_NONCE_CHARS} to {MAX_NONCE_CHARS} of A-Z a-z 0-9 - _, found {text[:40]!r}"
        )
    return text


def render_signed_time(
    at: datetime, nonce: str, key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate]
) -> bytes:
    """Return the JSON statement that `at` is the time now.

    Args:
        chain: certificate of `key` (extended key usage timeStamping) and its issuers, without the root.
    """
    time = render_time(at)
    return msgspec.json.encode(
        _Statement(
            time=time,
            nonce=nonce,
            signature=key.sign(_signed_bytes(time, nonce), ec.ECDSA(hashes.SHA256())),
            certificates=tuple(certificate.public_bytes(Encoding.DER) for certificate in chain),
        )
    )


def verify_signed_time(body: bytes, *, nonce: str, roots: Sequence[x509.Certificate]) -> datetime:
    """Return the time a trusted signer states for `nonce`.

    1. The nonce is ours. 2. The chain leads to a root of ours and is valid at the stated time. 3. The signer
    may state times (extended key usage timeStamping, RFC 5280 section 4.2.1.12). 4. The signature verifies.

    Raises:
        UntrustedTimeError: one of these fails.
        InvalidInputError: not such a statement.
    """
    statement, chain = _parse(body)
    at = parse_time(statement.time)
    if not secrets.compare_digest(statement.nonce.encode(), nonce.encode()):
        raise UntrustedTimeError("signed time: expected our nonce, found another")
    try:
        # The default for issuers wants serverAuth or clientAuth; the signer's own usage is checked below.
        issuers = ExtensionPolicy.webpki_defaults_ca().may_be_present(
            x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None
        )
        PolicyBuilder().store(Store(list(roots))).time(at).extension_policies(
            ca_policy=issuers, ee_policy=ExtensionPolicy.permit_all()
        ).build_client_verifier().verify(chain[0], chain[1:])
    except (VerificationError, *MALFORMED) as error:
        raise UntrustedTimeError(
            f"signed time: expected a chain to our root that is valid at {statement.time}, found none"
        ) from error
    key = _get_time_key(chain[0])
    try:
        key.verify(statement.signature, _signed_bytes(statement.time, nonce), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise UntrustedTimeError("signed time: expected its signer's signature, found another") from error
    return at


def _get_time_key(signer: x509.Certificate) -> ec.EllipticCurvePublicKey:
    try:
        key = signer.public_key()
        usages = list(signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, *MALFORMED):
        key, usages = None, []
    if usages != [ExtendedKeyUsageOID.TIME_STAMPING] or not isinstance(key, ec.EllipticCurvePublicKey):
        raise UntrustedTimeError("signed time: expected a signer for time stamping alone, found another")
    return key


def _parse(body: bytes) -> tuple[_Statement, list[x509.Certificate]]:
    if len(body) > MAX_BODY_BYTES:
        raise TooLargeError(f"signed time: expected at most {MAX_BODY_BYTES} bytes, found {len(body)}")
    try:
        statement = msgspec.json.decode(body, type=_Statement)
        return statement, [x509.load_der_x509_certificate(der) for der in statement.certificates]
    except (msgspec.MsgspecError, RecursionError, *MALFORMED) as error:
        raise InvalidInputError("signed time: expected a signed statement, found something else") from error


def _signed_bytes(time: str, nonce: str) -> bytes:
    return _CONTEXT + f"{time}\n{nonce}".encode()
