"""Evidence a device hands in: a quote, the PCR values it covers and the log that explains them."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from fleetward.base.errors import InvalidInputError, TooLargeError
from fleetward.wire.event_log import Hex, LogEntry, check_event_log

MAX_EVIDENCE_BYTES = 128 * 1024
NONCE_PATH = "/v1/attestation/nonce"
EVIDENCE_PATH = "/v1/attestation/evidence"

_Message = TypeVar("_Message", bound=msgspec.Struct)

Blob = Annotated[bytes, Meta(min_length=1, max_length=4096)]


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /v1/attestation/evidence` takes; binary fields are base64.

    Attributes:
        quote: TPMS_ATTEST over PCRs 8 and 9 of the SHA-256 bank, its qualifying data the server's nonce.
        signature: TPMT_SIGNATURE by the attestation key.
        pcrs: the values quoted, hexadecimal, by index.
        event_log: what led to them.
    """

    quote: Blob
    signature: Blob
    pcrs: Annotated[dict[str, Hex], Meta(max_length=24)]
    event_log: tuple[LogEntry, ...]


class NonceIssued(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A nonce to quote over, once, before `expires_at` (RFC 3339)."""

    nonce: Blob
    expires_at: Annotated[str, Meta(max_length=64)]


class AppraisalAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The verdict; `reasons` say what is wrong, a code and a sentence each."""

    good: bool
    expires_at: Annotated[str, Meta(max_length=64)]
    reasons: list[dict[str, str]] = []


def parse_evidence(body: bytes) -> Evidence:
    """Return evidence of the documented form; nothing in it is verified. Raises InvalidInputError."""
    if len(body) > MAX_EVIDENCE_BYTES:
        raise TooLargeError(f"evidence: expected at most {MAX_EVIDENCE_BYTES} bytes, found {len(body)}")
    evidence = _decode(body, Evidence)
    check_event_log(evidence.event_log)
    return evidence


def render_evidence(evidence: Evidence) -> bytes:
    return msgspec.json.encode(evidence)


def render_nonce(nonce: NonceIssued) -> bytes:
    return msgspec.json.encode(nonce)


def render_answer(answer: AppraisalAnswer) -> bytes:
    return msgspec.json.encode(answer)


def parse_nonce(body: bytes) -> NonceIssued:
    """Return the server's nonce. Raises InvalidInputError."""
    return _decode(body, NonceIssued)


def parse_answer(body: bytes) -> AppraisalAnswer:
    """Return the server's verdict. Raises InvalidInputError."""
    return _decode(body, AppraisalAnswer)


def _decode(body: bytes, kind: type[_Message]) -> _Message:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"{kind.__name__}: expected the documented form: {error}") from error
