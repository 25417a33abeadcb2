"""Notes, rows, exports and proofs come from outside: junk is refused with our errors and nothing else."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from fleetward.base.errors import FleetwardError
from fleetward.features.audit.model.documents import (
    ConsistencyDocument,
    InclusionDocument,
    LogDocument,
    convert_document,
    verify_consistency_document,
    verify_inclusion_document,
    verify_log_document,
)
from fleetward.features.audit.model.entry import (
    AuditTamperedError,
    Entry,
    read_entry,
    render_details,
    render_entry,
    to_micros,
)
from fleetward.features.audit.model.notes import parse_checkpoint, verify_checkpoint
from fleetward.features.audit.model.tree import Tree, hash_leaf
from fleetward.features.audit.service import LogNotary

AT = datetime(2026, 6, 1, tzinfo=UTC)
NOTARY = LogNotary(Ed25519PrivateKey.generate(), "example.org/audit")
NOTE = NOTARY.seal(0, (), at=AT, previous=0)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@given(st.text(max_size=300) | st.text("0123456789\n\u2014 =+/AZ", max_size=300))
def test_a_note_of_junk_is_refused(note: str) -> None:
    with pytest.raises(FleetwardError):
        verify_checkpoint(note, NOTARY.public_key)


@given(st.integers(0, len(NOTE) - 1), st.characters())
@example(0, "\ud800")
@example(len(NOTE) - 2, "\udfff")
def test_a_note_with_any_character_changed_is_refused(at: int, character: str) -> None:
    changed = NOTE[:at] + character + NOTE[at + 1 :]
    if changed != NOTE:
        with pytest.raises(AuditTamperedError):
            verify_checkpoint(changed, NOTARY.public_key)


def test_a_note_says_what_was_sealed() -> None:
    found = parse_checkpoint(NOTE)
    assert (found.size, found.at_us, found.previous) == (0, to_micros(AT), 0)
    with pytest.raises(FleetwardError):
        parse_checkpoint("x" * 3000)


@given(st.tuples(*[JSON | st.binary()] * 7))
def test_a_stored_row_is_an_entry_or_told(row: tuple[Any, ...]) -> None:
    try:
        entry, _ = read_entry(row)
    except AuditTamperedError:
        return
    assert render_details(entry.details) == row[5]


@given(st.dictionaries(st.text(), JSON))
def test_details_come_back_as_they_were_stored(details: dict[str, Any]) -> None:
    text = render_details(details)
    entry, _ = read_entry((0, 5, "a", "b", "c", text, b"\0" * 32))
    assert render_details(entry.details) == text


def export_of(size: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    tree, lines = Tree(), []
    for number in range(size):
        entry = Entry(number, AT, "operator:alice", "device.registered", f"device:d{number}")
        leaf = hash_leaf(render_entry(entry))
        tree, _ = tree.append(leaf)
        lines.append({
            "sequence": number, "at_us": to_micros(AT), "actor": entry.actor, "action": entry.action,
            "subject": entry.subject, "details": {}, "leaf_hash": b64(leaf),
        })  # fmt: skip
    note = NOTARY.seal(size, tree.peaks, at=AT, previous=0)
    head = {"size": size, "peaks": [b64(peak) for peak in tree.peaks], "note": note}
    return {"public_key": b64(NOTARY.public_key.public_bytes_raw()), "head": head, "notes": []}, lines


def verify_export(log: object, lines: list[Any]) -> Tree:
    document = convert_document(log, LogDocument, what="audit log")
    return verify_log_document(document, lines, NOTARY.public_key, witnessed=[])


def test_an_export_verifies_and_no_field_of_it_may_change() -> None:
    log, lines = export_of(5)
    assert verify_export(log, lines).size == 5
    for field, forged in (
        ("sequence", 3), ("at_us", 10**30), ("actor", "x"), ("action", "x"), ("subject", "x"),
        ("details", {"a": 1}), ("leaf_hash", b64(b"\0" * 32)), ("details", None), ("at_us", "soon"),
    ):  # fmt: skip
        changed = [*lines[:2], {**lines[2], field: forged}, *lines[3:]]
        with pytest.raises(FleetwardError):
            verify_export(log, changed)
    for shorter in (lines[1:], lines[:-1], [*lines[:2], *lines[3:]], [lines[1], lines[0], *lines[2:]]):
        with pytest.raises(AuditTamperedError):
            verify_export(log, shorter)


@given(JSON, st.lists(JSON, max_size=3))
def test_an_export_of_junk_is_refused(log: object, lines: list[Any]) -> None:
    with pytest.raises(FleetwardError):
        verify_export(log, lines)
    if lines:
        with pytest.raises(FleetwardError):
            verify_export(export_of(1)[0], lines)


@given(JSON)
def test_a_proof_of_junk_is_refused(proof: object) -> None:
    for kind in (InclusionDocument, ConsistencyDocument):
        with pytest.raises(FleetwardError):
            convert_document(proof, kind, what="audit proof")


def test_a_proof_without_a_signed_note_of_its_size_is_refused() -> None:
    log, lines = export_of(1)
    inclusion: dict[str, Any] = {
        "entry": lines[0], "size": 1, "path": [], "note": log["head"]["note"], "public_key": log["public_key"]
    }  # fmt: skip
    verify_inclusion_document(msgspec.convert(inclusion, InclusionDocument), NOTARY.public_key)
    growth: dict[str, Any] = {
        "first_size": 1, "second_size": 1, "path": [], "first_note": log["head"]["note"],
        "second_note": log["head"]["note"], "public_key": log["public_key"],
    }  # fmt: skip
    verify_consistency_document(msgspec.convert(growth, ConsistencyDocument), NOTARY.public_key)
    for forged in ({"note": None}, {"note": NOTE}, {"size": 2}):
        with pytest.raises(AuditTamperedError):
            verify_inclusion_document(
                msgspec.convert({**inclusion, **forged}, InclusionDocument), NOTARY.public_key
            )
    for forged in ({"first_note": None}, {"second_note": NOTE}, {"second_size": 2}):
        with pytest.raises(AuditTamperedError):
            verify_consistency_document(
                msgspec.convert({**growth, **forged}, ConsistencyDocument), NOTARY.public_key
            )


def test_an_entry_moved_in_a_log_of_any_claimed_size_is_told_at_once() -> None:
    log, lines = export_of(3)
    lines[0]["actor"] = "operator:nobody"
    note = NOTARY.seal(2**62, (b"\0" * 32,), at=AT, previous=0)
    log["head"] = {"size": 2**62, "peaks": [b64(b"\0" * 32)], "note": note}
    with pytest.raises(AuditTamperedError, match="entry 0"):
        verify_export(json.loads(json.dumps(log)), lines)
