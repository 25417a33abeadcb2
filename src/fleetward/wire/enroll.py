"""JSON of the TPM lane: enrollment, renewal and recovery by proof that the key lives in one chip.

Two round trips (`docs/reference/http-devices.md`): the device names its chip and gets a challenge that only
this chip can open; it answers with the opened secret, a request for a key in the chip, and the chip's
statement about that key. Binary fields are base64.
"""

from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from fleetward.base.errors import InvalidInputError, TooLargeError

PATH = "/v1/enroll/tpm"
MAX_BODY_BYTES = 256 * 1024
_MAX_FIELD_BYTES = 8 * 1024
_MAX_CHAIN = 6

Blob = Annotated[bytes, Meta(min_length=1, max_length=_MAX_FIELD_BYTES)]
Chain = Annotated[tuple[Blob, ...], Meta(min_length=1, max_length=_MAX_CHAIN)]
ShortText = Annotated[str, Meta(max_length=256)]


_Message = TypeVar("_Message", bound=msgspec.Struct)


class Purpose(StrEnum):
    """Why a device asks for a certificate."""

    ENROLL = "enroll"
    RENEW = "renew"
    RECOVER = "recover"


class TpmBegin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """First request.

    Attributes:
        ek_certificate_chain: endorsement key certificate and its issuers, DER, leaf first.
        ak_public: TPM2B_PUBLIC of the attestation key.
        claim: the operator's token, when the chip is in no shipment.
    """

    device_id: ShortText
    purpose: Purpose
    ek_certificate_chain: Chain
    ak_public: Blob
    claim: ShortText | None = None


class TpmChallenge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First answer.

    Attributes:
        credential_blob: TPM2B_ID_OBJECT for TPM2_ActivateCredential.
        encrypted_secret: TPM2B_ENCRYPTED_SECRET for it.
        nonce: qualifying data for TPM2_Certify, and for the quote when evidence is needed.
        expires_at: RFC 3339.
        is_evidence_needed: whether the second request must hold evidence.
    """

    challenge_id: ShortText
    credential_blob: Blob
    encrypted_secret: Blob
    nonce: Blob
    expires_at: ShortText
    is_evidence_needed: bool


class TpmFinish(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Second request.

    Attributes:
        secret: what ActivateCredential released.
        csr: PKCS#10, DER, for a new key in the chip.
        certify_info: TPMS_ATTEST by the AK over that key.
        certify_signature: TPMT_SIGNATURE over it.
        evidence: as `POST /v1/attestation/evidence` takes it.
    """

    secret: Blob
    csr: Annotated[bytes, Meta(min_length=1, max_length=16 * 1024)]
    certify_info: Blob
    certify_signature: Blob
    evidence: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class TpmIssued(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Second answer: the certificate and its issuers, DER, leaf first, without the root."""

    certificate_chain: Chain


def parse_begin(body: bytes) -> TpmBegin:
    """Return the first request of the lane. Raises InvalidInputError."""
    return _parse(body, TpmBegin)


def parse_challenge(body: bytes) -> TpmChallenge:
    """Return the first answer of the lane. Raises InvalidInputError."""
    return _parse(body, TpmChallenge)


def parse_finish(body: bytes) -> TpmFinish:
    """Return the second request of the lane. Raises InvalidInputError."""
    return _parse(body, TpmFinish)


def parse_issued(body: bytes) -> TpmIssued:
    """Return the second answer of the lane. Raises InvalidInputError."""
    return _parse(body, TpmIssued)


def render(message: TpmBegin | TpmChallenge | TpmIssued) -> bytes:
    return msgspec.json.encode(message)


def render_finish(
    secret: bytes, csr: bytes, certify_info: bytes, certify_signature: bytes, *, evidence: bytes | None
) -> bytes:
    """Return the second request; `evidence` is JSON already."""
    more = msgspec.UNSET if evidence is None else msgspec.Raw(evidence)
    return msgspec.json.encode(TpmFinish(secret, csr, certify_info, certify_signature, more))


def _parse(body: bytes, kind: type[_Message]) -> _Message:
    if len(body) > MAX_BODY_BYTES:
        raise TooLargeError(f"TPM enrollment: expected at most {MAX_BODY_BYTES} bytes, found {len(body)}")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"TPM enrollment: expected {kind.__name__} as documented: {error}") from error
