"""The boot pointer: which slot is confirmed, and which one is on trial.

Both the boot stage and the agent change it, always by replacing the whole file at once:

    agent:  begin_trial          the new firmware lies verified in the other slot
    boot:   take_try             before each start of a trial; when none is left the trial is over
    agent:  confirm | give_up    it proved its health, or did not

A trial that is over leaves `failed`, so that the agent can tell of it and does not install it again.
"""

import hashlib
from enum import StrEnum
from typing import Annotated

import msgspec

from fleetward.base.errors import CorruptDataError

MAX_POINTER_BYTES = 4096
# A power cut or two must not condemn good firmware; a crash loop should end soon.
TRIES = 3
_MAX_REASON_CHARS = 200


class Slot(StrEnum):
    A = "a"
    B = "b"

    @property
    def other(self) -> "Slot":
        return Slot.B if self is Slot.A else Slot.A


_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Firmware that has to prove itself. `manifest_sha256` is of the envelope in its slot."""

    slot: Slot
    tries_left: Annotated[int, msgspec.Meta(ge=0, le=16)]
    manifest_sha256: _Digest


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Firmware whose trial is over."""

    manifest_sha256: _Digest
    reason: Annotated[str, msgspec.Meta(max_length=_MAX_REASON_CHARS)]


class BootPointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`active` is the slot that last proved itself."""

    active: Slot
    trial: Trial | None = None
    failed: Failure | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pointer: BootPointer
    sha256: str


def begin_trial(pointer: BootPointer, slot: Slot, manifest_sha256: str) -> BootPointer:
    return BootPointer(pointer.active, Trial(slot, TRIES, manifest_sha256), pointer.failed)


def take_try(pointer: BootPointer) -> BootPointer:
    """Return the pointer to write before a start: one try less, or no trial when none is left."""
    trial = pointer.trial
    if trial is None:
        return pointer
    if trial.tries_left == 0:
        return give_up(pointer, f"it was started {TRIES} times and never proved its health")
    return BootPointer(
        pointer.active, Trial(trial.slot, trial.tries_left - 1, trial.manifest_sha256), pointer.failed
    )


def confirm(pointer: BootPointer) -> BootPointer:
    """Return the pointer that starts the firmware on trial from now on."""
    return pointer if pointer.trial is None else BootPointer(pointer.trial.slot)


def give_up(pointer: BootPointer, reason: str) -> BootPointer:
    """Return the pointer that starts the confirmed slot again and remembers why."""
    if pointer.trial is None:
        return pointer
    return BootPointer(
        pointer.active, None, Failure(pointer.trial.manifest_sha256, reason[:_MAX_REASON_CHARS])
    )


def render_pointer(pointer: BootPointer) -> bytes:
    return msgspec.json.encode(_File(pointer, _checksum(pointer)))


def parse_pointer(content: bytes) -> BootPointer:
    """Return the pointer in a file.

    Raises:
        CorruptDataError: not what `render_pointer` wrote.
    """
    try:
        if len(content) > MAX_POINTER_BYTES:
            raise CorruptDataError(f"boot pointer: expected at most {MAX_POINTER_BYTES} bytes, found more")
        found = msgspec.json.decode(content, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptDataError(f"boot pointer: expected JSON of ours: {error}") from error
    if found.sha256 != _checksum(found.pointer):
        raise CorruptDataError("boot pointer: expected its checksum to fit, found it does not")
    return found.pointer


def _checksum(pointer: BootPointer) -> str:
    return hashlib.sha256(msgspec.json.encode(pointer)).hexdigest()
