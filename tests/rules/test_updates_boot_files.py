"""Pointer, record and measurements: what the boot stage leaves behind and reads again."""

import hashlib
from importlib.resources import files

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetward.base.errors import CorruptDataError
from fleetward.features.updates.boot.measurement import digest_boot_stage, measure_start
from fleetward.features.updates.boot.pointer import (
    MAX_POINTER_BYTES,
    BootPointer,
    Failure,
    Slot,
    Trial,
    parse_pointer,
    render_pointer,
)
from fleetward.features.updates.boot.record import (
    MAX_RECORD_BYTES,
    BootRecord,
    BootRefusal,
    make_record,
    parse_record,
    render_record,
)
from fleetward.features.updates.boot.selection import Refusal, Refused, Selection, Verified
from fleetward.wire.event_log import Measured
from support.firmware import digest_of, make_envelope, make_manifest

FULL = BootPointer(Slot.B, Trial(Slot.A, 2, "f" * 64), Failure("e" * 64, "ü" * 200))
VERIFIED = Verified(Slot.B, make_manifest(6), make_envelope(6))
POINTER = BootPointer(Slot.B)


@pytest.mark.parametrize("pointer", [BootPointer(Slot.A), FULL])
def test_a_pointer_comes_back_as_it_was(pointer: BootPointer) -> None:
    content = render_pointer(pointer)
    assert len(content) <= MAX_POINTER_BYTES
    assert parse_pointer(content) == pointer


def test_a_pointer_with_a_checksum_of_another_is_damaged() -> None:
    """Half of a write is noticed: otherwise an old half could bring back a slot that was given up."""
    content = render_pointer(BootPointer(Slot.A)).replace(b'"active":"a"', b'"active":"b"')
    with pytest.raises(
        CorruptDataError, match=r"^boot pointer: expected its checksum to fit, found it does not$"
    ):
        parse_pointer(content)


def test_a_pointer_is_read_up_to_its_limit() -> None:
    content = render_pointer(FULL)
    assert parse_pointer(content.ljust(MAX_POINTER_BYTES)) == FULL
    with pytest.raises(CorruptDataError, match="expected at most 4096 bytes, found more"):
        parse_pointer(content.ljust(MAX_POINTER_BYTES + 1))


@given(st.binary(max_size=300))
@example(b"[" * 4000)
@example(b'{"pointer":{"active":"c"},"sha256":""}')
@example(render_pointer(FULL)[:-1])
@example(b"\xff")
def test_a_pointer_of_junk_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptDataError, match="boot pointer"):
        parse_pointer(content)


@given(st.integers(0, len(render_pointer(FULL)) - 1), st.integers(0, 255))
def test_a_pointer_with_a_byte_changed_is_never_another_pointer(at: int, byte: int) -> None:
    content = bytearray(render_pointer(FULL))
    content[at] = byte
    try:
        found = parse_pointer(bytes(content))
    except CorruptDataError:
        return
    assert found == FULL


def test_a_pointer_has_no_room_for_more_than_the_code_writes() -> None:
    def with_pointer(pointer: dict[str, object]) -> bytes:
        digest = hashlib.sha256(msgspec.json.encode(pointer)).hexdigest()
        return msgspec.json.encode({"pointer": pointer, "sha256": digest})

    trial = {"slot": "a", "tries_left": 16, "manifest_sha256": "f" * 64}
    good: dict[str, object] = {"active": "a", "trial": trial, "failed": None}
    assert parse_pointer(with_pointer(good)).trial == Trial(Slot.A, 16, "f" * 64)
    for bad in (
        {**good, "more": 1},
        {**good, "trial": {**trial, "tries_left": 17}},
        {**good, "trial": {**trial, "tries_left": -1}},
        {**good, "trial": {**trial, "manifest_sha256": "F" * 64}},
        {**good, "failed": {"manifest_sha256": "f" * 64, "reason": "x" * 201}},
    ):
        with pytest.raises(CorruptDataError):
            parse_pointer(with_pointer(bad))


def test_a_record_tells_what_started_and_what_did_not() -> None:
    refused = (Refused(Slot.A, Refusal.ROLLED_BACK, "m" * 1001),)
    record = make_record(Selection(VERIFIED, is_trial=True, refused=refused, pointer=POINTER), "b00t")
    assert record == BootRecord(
        boot_id="b00t",
        slot=Slot.B,
        version="1.6.0",
        security_counter=6,
        manifest_sha256=digest_of(make_envelope(6)),
        is_trial=True,
        refused=(BootRefusal(Slot.A, Refusal.ROLLED_BACK, "m" * 1000),),
    )
    assert parse_record(render_record(record)) == record


def test_a_record_of_a_start_without_firmware_names_none() -> None:
    refused = (Refused(Slot.A, Refusal.EMPTY, "why"),)
    record = make_record(Selection(None, is_trial=False, refused=refused, pointer=POINTER), "b00t")
    assert record == BootRecord(boot_id="b00t", refused=(BootRefusal(Slot.A, Refusal.EMPTY, "why"),))
    assert (record.slot, record.version, record.security_counter, record.is_trial) == (None, None, 0, False)


def test_a_record_is_read_up_to_its_limit() -> None:
    content = render_record(BootRecord(boot_id="b00t"))
    assert parse_record(content.ljust(MAX_RECORD_BYTES)).boot_id == "b00t"
    with pytest.raises(CorruptDataError, match="boot record: expected at most 16384 bytes, found more"):
        parse_record(content.ljust(MAX_RECORD_BYTES + 1))


@given(st.binary(max_size=300))
@example(b"[" * 16_000)
@example(b"{}")
@example(b"\xff")
@example(b'{"boot_id":"x","slot":"c"}')
def test_a_record_of_junk_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptDataError, match="boot record"):
        parse_record(content)


def test_what_starts_is_measured_in_order() -> None:
    entries = measure_start(b"s" * 32, b"pinned", VERIFIED, version="0.1.0")
    assert [(one.recnum, one.content.kind, one.digest) for one in entries] == [
        (0, Measured.BOOT_STAGE, b"s" * 32),
        (1, Measured.PINNED_KEYS, hashlib.sha256(b"pinned").digest()),
        (2, Measured.IMAGE, hashlib.sha256(b"image").digest()),
        (3, Measured.MANIFEST, hashlib.sha256(make_envelope(6)).digest()),
    ]
    assert [one.pcr for one in entries] == [8, 8, 9, 9]
    assert [(one.content.name, one.content.version) for one in entries] == [
        ("fleetward", "0.1.0"), ("", ""), ("camera-1", "1.6.0"), ("camera-1", "1.6.0"),
    ]  # fmt: skip


def test_a_start_without_firmware_is_marked_so_that_none_can_be_pretended() -> None:
    entries = measure_start(b"s" * 32, b"pinned", None, version="0.1.0")
    assert [one.content.kind for one in entries] == [
        Measured.BOOT_STAGE, Measured.PINNED_KEYS, Measured.NO_FIRMWARE,
    ]  # fmt: skip
    assert (entries[2].pcr, entries[2].content.name, entries[2].content.version) == (9, "", "")
    assert entries[2].digest == hashlib.sha256(b"fleetward: no firmware was started").digest()


def test_the_boot_stage_is_measured_as_documented() -> None:
    """Names, lengths and contents of every file that decides what starts, in one order."""
    root = files("fleetward")
    digest = hashlib.sha256()
    for folder, names in (
        ("base", ["files.py"]),
        ("features/updates/boot", None),
        ("outside/slots", None),
        ("programs/agent", ["boot.py"]),
        ("programs/agent", ["supervise.py"]),
        ("wire", ["event_log.py"]),
        ("wire", ["manifest.py"]),
    ):
        for name in names or sorted(
            one.name for one in (root / folder).iterdir() if one.name.endswith(".py")
        ):
            content = (root / folder / name).read_bytes()
            digest.update(f"{folder}/{name}\0{len(content)}\0".encode() + content)
    assert digest_boot_stage() == digest.digest()
