"""The boot stage's event log: what was measured into which PCR, in the shape of TCG CEL-JSON."""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from fleetward.base.errors import InvalidInputError, TooLargeError

MAX_LOG_BYTES = 64 * 1024
_MAX_ENTRIES = 64
_DIGEST_BYTES = 32

BOOT_PCR = 8
FIRMWARE_PCR = 9

Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Meta(max_length=128)]


class Measured(StrEnum):
    """What kind of thing was measured; its kind decides the PCR."""

    BOOT_STAGE = "boot_stage"
    PINNED_KEYS = "pinned_keys"
    IMAGE = "firmware_image"
    MANIFEST = "firmware_manifest"
    NO_FIRMWARE = "no_firmware"

    @property
    def pcr(self) -> int:
        return BOOT_PCR if self in (Measured.BOOT_STAGE, Measured.PINNED_KEYS) else FIRMWARE_PCR


class Digest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"hash_alg": "hashAlg"}):
    hash_alg: Annotated[str, Meta(pattern="^sha256$")]
    digest: Hex


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: Measured
    name: Text = ""
    version: Text = ""


class LogEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measurement. `recnum` counts from 0."""

    recnum: Annotated[int, Meta(ge=0, lt=_MAX_ENTRIES)]
    pcr: Annotated[int, Meta(ge=0, le=23)]
    digests: Annotated[tuple[Digest, ...], Meta(min_length=1, max_length=1)]
    content: Content
    content_type: Annotated[str, Meta(pattern="^fleetward$")] = "fleetward"

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.digests[0].digest)


def make_entry(recnum: int, kind: Measured, digest: bytes, *, name: str = "", version: str = "") -> LogEntry:
    """Return the entry of one measurement."""
    return LogEntry(recnum, kind.pcr, (Digest("sha256", digest.hex()),), Content(kind, name, version))


def parse_event_log(content: bytes) -> tuple[LogEntry, ...]:
    """Return a log as `check_event_log` wants it. Raises InvalidInputError."""
    if len(content) > MAX_LOG_BYTES:
        raise TooLargeError(f"event log: expected at most {MAX_LOG_BYTES} bytes, found {len(content)}")
    try:
        entries = msgspec.json.decode(content, type=tuple[LogEntry, ...])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"event log: expected the documented form: {error}") from error
    return check_event_log(entries)


def check_event_log(entries: tuple[LogEntry, ...]) -> tuple[LogEntry, ...]:
    """Return `entries` when they are numbered in order, each in the PCR of its kind, and few enough.

    Raises:
        InvalidInputError: they are not.
    """
    if len(entries) > _MAX_ENTRIES or [entry.recnum for entry in entries] != list(range(len(entries))):
        raise InvalidInputError(
            f"event log: expected at most {_MAX_ENTRIES} entries numbered from 0, found others"
        )
    for entry in entries:
        if entry.pcr != entry.content.kind.pcr:
            raise InvalidInputError(
                f"event log: expected {entry.content.kind} in PCR {entry.content.kind.pcr}, "
                f"found it in PCR {entry.pcr}"
            )
    return entries


def render_event_log(entries: Iterable[LogEntry]) -> bytes:
    return msgspec.json.encode(tuple(entries))


def replay(entries: Iterable[LogEntry], *, start: bytes = bytes(_DIGEST_BYTES)) -> dict[int, bytes]:
    """Return the PCR values these measurements lead to from a reset (TPM 2.0 Part 1, clause 17.2)."""
    values: dict[int, bytes] = {}
    for entry in entries:
        before = values.get(entry.pcr, start)
        values[entry.pcr] = hashlib.sha256(before + entry.digest).digest()
    return values
