"""The firmware manifest: what one release is, signed for the boot stage.

It is a DSSE envelope (github.com/secure-systems-lab/dsse, protocol 1.0) around JSON. It lies beside the image
in a device's slot and is checked at every start, without a network, by the keys pinned at provisioning. Those
keys are none of TUF's: who takes over the update server can still not make a device run anything.

Rules:
- Ed25519 only. Signatures count once per pinned key; `keyid` is a hint and decides nothing (DSSE, protocol).
- The payload type is part of what is signed, so no other signed JSON passes for a manifest.
- Unknown fields of the payload are allowed: a device must be able to read the manifest of a later release.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_id

PAYLOAD_TYPE = "application/vnd.fleetward.firmware+json"
MAX_MANIFEST_BYTES = 64 * 1024
MAX_PINNED_BYTES = 64 * 1024
MAX_IMAGE_BYTES = 64 * 1024**3
MAX_COUNTER = 2**31 - 1  # what a TPM NV counter of ours can be advanced to step by step stays far below
_MAX_KEYS = 16

_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Counter = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNTER)]


class UntrustedManifestError(InvalidInputError):
    """A manifest that is not signed by enough of the pinned keys."""

    code = "manifest_untrusted"


class FirmwareManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One release of one model.

    Attributes:
        security_counter: grows with every release; a device never goes back below the one it confirmed.
        sha256: of the image, hex.
        length: of the image, bytes.
        sbom_sha256: of the CycloneDX document published with it, hex.
        created_at: RFC 3339; tells people when, decides nothing.
    """

    model: str
    version: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
    security_counter: _Counter
    sha256: _Digest
    length: Annotated[int, msgspec.Meta(ge=1, le=MAX_IMAGE_BYTES)]
    sbom_sha256: _Digest
    created_at: Annotated[str, msgspec.Meta(max_length=40)]


class PinnedKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The firmware keys a device trusts, as the file `pinned.json` holds them.

    Attributes:
        threshold: how many of them must have signed.
        keys: Ed25519 public keys, PEM.
    """

    threshold: Annotated[int, msgspec.Meta(ge=1, le=_MAX_KEYS)]
    keys: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=_MAX_KEYS)]


class _Signature(msgspec.Struct, frozen=True):
    sig: str
    keyid: str = ""


class _Envelope(msgspec.Struct, frozen=True):
    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: Annotated[tuple[_Signature, ...], msgspec.Meta(max_length=_MAX_KEYS)]


def render_manifest(manifest: FirmwareManifest, signers: Sequence[Ed25519PrivateKey]) -> bytes:
    """Return the DSSE envelope of `manifest`, signed by each of `signers`."""
    payload = msgspec.json.encode(manifest)
    signed = _pre_authentication_encoding(PAYLOAD_TYPE, payload)
    signatures = tuple(
        _Signature(base64.b64encode(signer.sign(signed)).decode(), key_id(signer.public_key()))
        for signer in signers
    )
    return msgspec.json.encode(_Envelope(base64.b64encode(payload).decode(), PAYLOAD_TYPE, signatures))


def verify_manifest(envelope: bytes, pinned: PinnedKeys) -> FirmwareManifest:
    """Return the manifest inside `envelope` once enough pinned keys have signed it.

    Steps (DSSE protocol, "verification"):
        1. The envelope is JSON of the expected form, within its size limit.
        2. Its payload type is ours.
        3. At least `pinned.threshold` different pinned keys verify over type and payload.
        4. Only then is the payload parsed.

    Raises:
        UntrustedManifestError: too few signatures by pinned keys.
        InvalidInputError: not a manifest at all.
    """
    found = _parse_envelope(envelope)
    if found.payload_type != PAYLOAD_TYPE:
        raise InvalidInputError(
            f"firmware manifest: expected type {PAYLOAD_TYPE}, found {found.payload_type[:80]!r}"
        )
    payload = _decode(found.payload)
    keys = {key_id(key): key for key in map(_load_key, pinned.keys)}
    signed = _pre_authentication_encoding(found.payload_type, payload)
    signatures = [_decode(one.sig) for one in found.signatures]
    by = {name for name, key in keys.items() if any(_has_signed(key, sig, signed) for sig in signatures)}
    if len(by) < pinned.threshold:
        raise UntrustedManifestError(
            f"firmware manifest: expected signatures of {pinned.threshold} pinned keys, found {len(by)}",
            hint="It was signed by a stranger, or changed after it was signed.",
        )
    return parse_manifest(payload)


def parse_manifest(unverified_payload: bytes) -> FirmwareManifest:
    """Return the manifest in the payload of an envelope; says nothing about who signed it.

    Raises:
        InvalidInputError: not JSON, a field missing or out of bounds.
    """
    try:
        manifest = msgspec.json.decode(unverified_payload, type=FirmwareManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"firmware manifest: {error}") from error
    parse_id(manifest.model, what="model")
    return manifest


def digest_manifest(envelope: bytes) -> bytes:
    """Return the SHA-256 of the envelope as it lies in the slot: what is measured into PCR 9."""
    return hashlib.sha256(envelope).digest()


def render_pinned_keys(keys: Sequence[Ed25519PublicKey], *, threshold: int = 1) -> bytes:
    """Return the content of `pinned.json`; the same keys always give the same bytes, which are measured."""
    pems = sorted(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in keys)
    return msgspec.json.format(msgspec.json.encode(PinnedKeys(threshold, tuple(pems))), indent=2) + b"\n"


def parse_pinned_keys(content: bytes) -> PinnedKeys:
    """Return the keys of a `pinned.json`.

    Raises:
        InvalidInputError: not such a file, a key that is not Ed25519, or a threshold no signature set meets.
    """
    if len(content) > MAX_PINNED_BYTES:
        raise InvalidInputError(
            f"pinned keys: expected at most {MAX_PINNED_BYTES} bytes, found {len(content)}"
        )
    try:
        pinned = msgspec.json.decode(content, type=PinnedKeys)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"pinned keys: {error}") from error
    different = {key_id(_load_key(pem)) for pem in pinned.keys}
    if len(different) < pinned.threshold:
        raise InvalidInputError(
            f"pinned keys: expected at least {pinned.threshold} different keys, found {len(different)}"
        )
    return pinned


def key_id(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of the key's SPKI, hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _parse_envelope(content: bytes) -> _Envelope:
    if len(content) > MAX_MANIFEST_BYTES:
        raise InvalidInputError(
            f"firmware manifest: expected at most {MAX_MANIFEST_BYTES} bytes, found {len(content)}"
        )
    try:
        return msgspec.json.decode(content, type=_Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"firmware manifest: expected a DSSE envelope: {error}") from error


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidInputError("firmware manifest: expected base64, found something else") from error


def _load_key(pem: str) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInputError("pinned keys: expected PEM public keys, found something else") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInputError("pinned keys: expected Ed25519, found another kind of key")
    return key


def _has_signed(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed (DSSE, protocol, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
