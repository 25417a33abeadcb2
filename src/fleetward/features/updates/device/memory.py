"""What the update machine remembers across restarts, and the settings it runs by."""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from fleetward.wire.manifest import MAX_IMAGE_BYTES, PinnedKeys, digest_manifest

MAX_MEMORY_BYTES = 256 * 1024
_MAX_REFUSED = 32


@dataclass(frozen=True)
class Settings:
    """How this device updates.

    Attributes:
        spread: 0 to 1, fixed per device, so that a fleet does not ask all at once.
    """

    model: str
    pinned: PinnedKeys
    poll_interval_s: float
    trial_timeout_s: float
    spread: float = 0.5

    @property
    def pause_s(self) -> float:
        """Seconds between two checks."""
        return self.poll_interval_s * (0.9 + 0.2 * self.spread)


class ImageTarget(msgspec.Struct, frozen=True):
    """What TUF vouches for: a target's name, digests (hex) and length."""

    name: str
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    sha512: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}$")]
    length: Annotated[int, msgspec.Meta(ge=1, le=MAX_IMAGE_BYTES)]


class Candidate(msgspec.Struct, frozen=True):
    """The release under way: its manifest as it will lie in the slot, and its image."""

    envelope: bytes
    target: ImageTarget
    version: str
    security_counter: int

    @property
    def manifest_sha256(self) -> str:
        return digest_manifest(self.envelope).hex()


class RefusedRelease(msgspec.Struct, frozen=True):
    """A release that is never tried again on this device."""

    manifest_sha256: str
    reason: str


class Memory(msgspec.Struct, frozen=True):
    """What survives a restart.

    Attributes:
        told: the last trouble told of, so that the same one is told once.
        told_boot: the last start whose refusals were told.
    """

    candidate: Candidate | None = None
    refused: tuple[RefusedRelease, ...] = ()
    told: str = ""
    told_boot: str = ""

    def has_refused(self, manifest_sha256: str) -> bool:
        return any(one.manifest_sha256 == manifest_sha256 for one in self.refused)

    def refuse(self, manifest_sha256: str, reason: str) -> tuple[RefusedRelease, ...]:
        """Return the refused releases with one more; the oldest is forgotten beyond 32."""
        return (*self.refused, RefusedRelease(manifest_sha256, reason[:200]))[-_MAX_REFUSED:]


def render_memory(memory: Memory) -> bytes:
    return msgspec.json.encode(memory)


def parse_memory(content: bytes | None) -> Memory:
    """Return what was remembered; nothing when the file is missing or damaged.

    Forgetting is safe: every step verifies anew, and the boot pointer holds what must not be forgotten.
    """
    if content is None or len(content) > MAX_MEMORY_BYTES:
        return Memory()
    try:
        return msgspec.json.decode(content, type=Memory)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Memory()
