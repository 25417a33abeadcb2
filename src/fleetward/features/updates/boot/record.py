"""What the boot stage leaves for the agent: what it started, and what it refused to start."""

from typing import Annotated

import msgspec

from fleetward.base.errors import CorruptDataError
from fleetward.features.updates.boot.pointer import Slot
from fleetward.features.updates.boot.selection import Refusal, Selection

MAX_RECORD_BYTES = 16 * 1024


class BootRefusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slot: Slot
    refusal: Refusal
    message: Annotated[str, msgspec.Meta(max_length=1000)]


class BootRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One start of the device.

    Attributes:
        boot_id: random; tells one start from the next.
        slot: None when no firmware was started, and the agent runs alone.
    """

    boot_id: str
    slot: Slot | None = None
    version: str | None = None
    security_counter: int = 0
    manifest_sha256: str | None = None
    is_trial: bool = False
    refused: tuple[BootRefusal, ...] = ()


def make_record(selection: Selection, boot_id: str) -> BootRecord:
    refused = tuple(BootRefusal(one.slot, one.refusal, one.message[:1000]) for one in selection.refused)
    chosen = selection.chosen
    if chosen is None:
        return BootRecord(boot_id=boot_id, refused=refused)
    return BootRecord(
        boot_id=boot_id,
        slot=chosen.slot,
        version=chosen.manifest.version,
        security_counter=chosen.manifest.security_counter,
        manifest_sha256=chosen.manifest_sha256,
        is_trial=selection.is_trial,
        refused=refused,
    )


def render_record(record: BootRecord) -> bytes:
    return msgspec.json.encode(record)


def parse_record(content: bytes) -> BootRecord:
    """Return the record in a file. Raises CorruptDataError when it is not one of ours."""
    if len(content) > MAX_RECORD_BYTES:
        raise CorruptDataError(f"boot record: expected at most {MAX_RECORD_BYTES} bytes, found more")
    try:
        return msgspec.json.decode(content, type=BootRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptDataError(f"boot record: expected JSON of ours: {error}") from error
