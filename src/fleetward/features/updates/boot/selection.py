"""Which slot starts.

Only firmware that enough pinned keys signed, for this model, unchanged, and not older than what was
confirmed, ever does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from fleetward.base.errors import InvalidInputError
from fleetward.features.updates.boot.pointer import BootPointer, Slot, give_up, take_try
from fleetward.wire.manifest import (
    FirmwareManifest,
    PinnedKeys,
    UntrustedManifestError,
    digest_manifest,
    verify_manifest,
)


class Refusal(StrEnum):
    """Why a slot does not start."""

    EMPTY = "empty"
    MANIFEST_INVALID = "manifest_invalid"
    MANIFEST_UNTRUSTED = "manifest_untrusted"
    WRONG_MODEL = "wrong_model"
    ROLLED_BACK = "rolled_back"
    IMAGE_CHANGED = "image_changed"
    FAILED_BEFORE = "failed_before"


@dataclass(frozen=True)
class SlotContent:
    """What lies in a slot, unverified.

    Attributes:
        envelope: the manifest file; None when there is none.
        measure_image: returns SHA-256 (hex) and length of the image, reading at most one byte over the given
            length; None when there is no image.
    """

    envelope: bytes | None
    measure_image: Callable[[int], tuple[str, int] | None]


@dataclass(frozen=True)
class BootRules:
    """What firmware must fulfil.

    Attributes:
        floor: the anti-rollback counter.
    """

    pinned: PinnedKeys
    model: str
    floor: int


@dataclass(frozen=True)
class Verified:
    """Firmware that may start."""

    slot: Slot
    manifest: FirmwareManifest
    envelope: bytes

    @property
    def manifest_sha256(self) -> str:
        return digest_manifest(self.envelope).hex()


@dataclass(frozen=True)
class Refused:
    """Firmware that may not. `message` is for people."""

    slot: Slot
    refusal: Refusal
    message: str


@dataclass(frozen=True)
class Selection:
    """What to start; `chosen` is None when no slot holds firmware that may.

    Attributes:
        pointer: what the pointer must say before anything starts.
    """

    chosen: Verified | None
    is_trial: bool
    refused: tuple[Refused, ...]
    pointer: BootPointer


def verify_slot(slot: Slot, content: SlotContent, rules: BootRules) -> Verified | Refused:
    """Return the firmware in a slot, verified, or why it may not start.

    Steps: 1. a manifest is there; 2. enough pinned keys signed it; 3. it is for this model; 4. its counter is
    not below the floor; 5. the image has the length and the digest it names.
    """
    if content.envelope is None:
        return Refused(slot, Refusal.EMPTY, f"slot {slot}: expected firmware, found none")
    try:
        manifest = verify_manifest(content.envelope, rules.pinned)
    except UntrustedManifestError as error:
        return Refused(slot, Refusal.MANIFEST_UNTRUSTED, f"slot {slot}: {error.message}")
    except InvalidInputError as error:
        return Refused(slot, Refusal.MANIFEST_INVALID, f"slot {slot}: {error.message}")
    problem = _find_problem(manifest, content, rules)
    if problem is not None:
        refusal, message = problem
        return Refused(slot, refusal, f"slot {slot}: {message}")
    return Verified(slot, manifest, content.envelope)


def _find_problem(
    manifest: FirmwareManifest, content: SlotContent, rules: BootRules
) -> tuple[Refusal, str] | None:
    if manifest.model != rules.model:
        return (
            Refusal.WRONG_MODEL,
            f"expected firmware for {rules.model}, found it for {manifest.model}",
        )
    if manifest.security_counter < rules.floor:
        return (
            Refusal.ROLLED_BACK,
            f"expected security counter {rules.floor} or more, found {manifest.security_counter}",
        )
    if content.measure_image(manifest.length) != (manifest.sha256, manifest.length):
        return (
            Refusal.IMAGE_CHANGED,
            f"expected the image of version {manifest.version}, found another or a changed one",
        )
    return None


def select(pointer: BootPointer | None, read: Callable[[Slot], SlotContent], rules: BootRules) -> Selection:
    """Return what to start.

    A trial comes first while it has tries left; then the active slot; then the other one, if it did not just
    fail its trial. Without a pointer the verified slot with the lowest counter starts: the floor only moves
    to what was confirmed, so that is the one that proved itself.
    """
    if pointer is None:
        return _select_without_pointer(read, rules)
    pointer = take_try(pointer)
    refused: list[Refused] = []
    if pointer.trial is not None:
        found = verify_slot(pointer.trial.slot, read(pointer.trial.slot), rules)
        if isinstance(found, Verified) and found.manifest_sha256 == pointer.trial.manifest_sha256:
            return Selection(found, is_trial=True, refused=(), pointer=pointer)
        if isinstance(found, Verified):
            message = f"slot {found.slot}: expected the firmware put on trial, found version "
            found = Refused(found.slot, Refusal.IMAGE_CHANGED, message + found.manifest.version)
        refused.append(found)
        pointer = give_up(pointer, found.message)
    for slot in (pointer.active, pointer.active.other):
        if any(one.slot is slot for one in refused):
            continue
        found = _unless_failed(verify_slot(slot, read(slot), rules), pointer)
        if isinstance(found, Verified):
            pointer = BootPointer(slot, None, pointer.failed)
            return Selection(found, is_trial=False, refused=tuple(refused), pointer=pointer)
        refused.append(found)
    return Selection(None, is_trial=False, refused=tuple(refused), pointer=pointer)


def _unless_failed(found: Verified | Refused, pointer: BootPointer) -> Verified | Refused:
    if isinstance(found, Refused) or pointer.failed is None or found.slot is pointer.active:
        return found
    if found.manifest_sha256 != pointer.failed.manifest_sha256:
        return found
    message = f"slot {found.slot}: expected firmware that works, found version {found.manifest.version} that "
    return Refused(found.slot, Refusal.FAILED_BEFORE, message + "failed its trial")


def _select_without_pointer(read: Callable[[Slot], SlotContent], rules: BootRules) -> Selection:
    found = [verify_slot(slot, read(slot), rules) for slot in Slot]
    refused = tuple(one for one in found if isinstance(one, Refused))
    verified = [one for one in found if isinstance(one, Verified)]
    chosen = min(verified, key=lambda one: one.manifest.security_counter, default=None)
    pointer = BootPointer(Slot.A if chosen is None else chosen.slot)
    return Selection(chosen, is_trial=False, refused=refused, pointer=pointer)
