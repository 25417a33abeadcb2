"""Signed firmware for rules: manifests, the keys that signed them, and slots that hold them."""

import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleetward.features.updates.boot.selection import SlotContent
from fleetward.wire.manifest import (
    FirmwareManifest,
    PinnedKeys,
    digest_manifest,
    parse_pinned_keys,
    render_manifest,
    render_pinned_keys,
)

MODEL = "camera-1"
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
PINNED: PinnedKeys = parse_pinned_keys(render_pinned_keys([KEY.public_key()]))
EMPTY = SlotContent(None, lambda _length: None)


def make_manifest(
    counter: int, *, image: bytes = b"image", model: str = MODEL, version: str | None = None
) -> FirmwareManifest:
    """Return the manifest of an image."""
    return FirmwareManifest(
        model=model,
        version=f"1.{counter}.0" if version is None else version,
        security_counter=counter,
        sha256=hashlib.sha256(image).hexdigest(),
        length=len(image),
        sbom_sha256="0" * 64,
        created_at="2026-06-01T00:00:00Z",
    )


def make_envelope(
    counter: int,
    *,
    image: bytes = b"image",
    model: str = MODEL,
    version: str | None = None,
    signer: Ed25519PrivateKey = KEY,
) -> bytes:
    """Return the signed manifest of an image, as it lies in a slot."""
    return render_manifest(make_manifest(counter, image=image, model=model, version=version), [signer])


def digest_of(envelope: bytes) -> str:
    return digest_manifest(envelope).hex()


def slot_of(envelope: bytes | None, image: bytes | None = b"image") -> SlotContent:
    """Return a slot that measures as the disk's does: at most one byte over the length asked for."""

    def measure(length: int) -> tuple[str, int] | None:
        if image is None:
            return None
        read = image[: length + 1]
        return hashlib.sha256(read).hexdigest(), len(read)

    found: Callable[[int], tuple[str, int] | None] = measure
    return SlotContent(envelope, found)
