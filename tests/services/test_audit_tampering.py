"""Every column of every audit table is changed with SQL, beside the platform: always told, and where.

The log: fourteen entries, checkpoints at 4, 8 and 12, so that two lie behind the last one.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleetward.base.events import Severity, list_events
from fleetward.base.layout import DataFolder
from fleetward.features.audit import service, store
from fleetward.features.audit.model.entry import AuditTamperedError, Entry, render_entry
from fleetward.features.audit.model.tree import Tree, hash_leaf
from fleetward.migrations.runner import migrate
from fleetward.outside.auditing.folder import verify_folder
from support.audit import AuditRig
from support.clock import ManualClock
from support.database import open_database
from support.postgres import postgres_database

SIZE = 14
DELETE = "DELETE FROM audit_entries WHERE {}"
NOTE = "UPDATE audit_checkpoints SET note = {} WHERE size = {}"
ENTRY = "UPDATE audit_entries SET {} WHERE sequence = {}"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[AuditRig, Callable[[], None]]]:
    """The log, written once; what puts it back after a test has spoilt it."""
    folder, clock = tmp_path_factory.mktemp("log"), ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))
    with ExitStack() as stack:
        url = f"sqlite:///{folder / 'fleetward.sqlite3'}"
        if request.param == "postgresql":
            url = stack.enter_context(postgres_database(request.config))
        made = AuditRig(open_database(url, clock), folder, clock)
        stack.callback(lambda: made.db.close())  # noqa: PLW0108 - a restart replaces it
        migrate(made.db)
        made.append(SIZE, checkpoint_every=4)
        yield made, made.save()


@pytest.fixture
def rig(filled: tuple[AuditRig, Callable[[], None]]) -> AuditRig:
    made, restore = filled
    restore()
    return made


def verify(rig: AuditRig, *, witnessed: bool = False) -> Tree:
    notes = rig.witness.read() if witnessed else []
    with rig.db.read() as tx:
        return service.verify(tx, rig.key.public_key(), witnessed=notes)


def tampering(rig: AuditRig, tmp_path: Path, *, witnessed: bool = False) -> AuditTamperedError:
    """Return what the platform tells, after asking that the folder of a stopped one tells the same."""
    with pytest.raises(AuditTamperedError) as caught:
        verify(rig, witnessed=witnessed)
    if rig.db.is_sqlite:
        notes = rig.witness.read() if witnessed else []
        with pytest.raises(AuditTamperedError) as offline:
            verify_folder(_as_folder(rig, tmp_path), rig.key.public_key(), notes)
        assert offline.value.message == caught.value.message
    return caught.value


def _as_folder(rig: AuditRig, tmp_path: Path) -> DataFolder:
    rig.db.close()
    folder = DataFolder(tmp_path / "data")
    folder.database.parent.mkdir(parents=True, exist_ok=True)
    assert rig.db.engine.url.database is not None
    for file in Path(rig.db.engine.url.database).parent.glob("fleetward.sqlite3*"):
        shutil.copy(file, folder.database.parent / file.name)
    return folder


@dataclass(frozen=True)
class Case:
    """Statements, and where the log must say that something is wrong."""

    name: str
    statements: tuple[str, ...]
    entry: int | None = None
    checkpoint: int | None = None


def each_entry(name: str, change: str) -> list[Case]:
    return [
        Case(f"{name}-of-{where}", (ENTRY.format(change, at),), entry=at)
        for where, at in (("first", 0), ("middle", 6), ("last", SIZE - 1))
    ]


def deleting(name: str, where: str, entry: int) -> Case:
    return Case(name, (DELETE.format(where),), entry=entry)


CASES = [
    *each_entry("at", "at = at + 1"),
    *each_entry("at-beyond-time", "at = 9000000000000000000"),
    *each_entry("actor", "actor = 'operator:alicf'"),
    *each_entry("action", "action = 'device.registerec'"),
    *each_entry("subject", "subject = subject || ' '"),
    *each_entry("details", "details = replace(details, '\"nth\"', '\"nti\"')"),
    *each_entry("details-spacing", "details = replace(details, ':', ': ')"),
    *each_entry("details-no-json", "details = 'nothing'"),
    *each_entry("details-no-object", "details = '[]'"),
    Case("sequence-of-first", (ENTRY.format("sequence = 99", 0),), entry=0),
    Case("sequence-of-middle", (ENTRY.format("sequence = 99", 6),), entry=6),
    Case("sequence-of-last", (ENTRY.format("sequence = 99", SIZE - 1),), entry=SIZE - 1),
    deleting("first-deleted", "sequence = 0", 0),
    deleting("middle-deleted", "sequence = 6", 6),
    deleting("last-deleted", "sequence = 13", 13),
    deleting("end-deleted", "sequence >= 12", 12),
    deleting("all-deleted", "sequence >= 0", 0),
    Case(
        "two-swapped",
        (ENTRY.format("sequence = -1", 3), ENTRY.format("sequence = 3", 9), ENTRY.format("sequence = 9", -1)),
        entry=3,
    ),
    Case("head-size", ("UPDATE audit_head SET size = size - 1",), entry=13),
    Case("head-size-grown", ("UPDATE audit_head SET size = size + 1",), entry=14),
    Case("head-note-removed", ("UPDATE audit_head SET note = ''",)),
    Case("head-note-cut", ("UPDATE audit_head SET note = substr(note, 2)",)),
    Case("head-note-grown", ("UPDATE audit_head SET note = note || ' '",)),
    Case("head-kept", ("UPDATE audit_head SET kept = 8",), checkpoint=8),
    Case("checkpoint-size", ("UPDATE audit_checkpoints SET size = 9 WHERE size = 8",), checkpoint=9),
    Case("checkpoint-at", ("UPDATE audit_checkpoints SET at = at + 1 WHERE size = 8",), checkpoint=8),
    Case("checkpoint-note-said", ("UPDATE audit_checkpoints SET note = replace(note, '12', '13')",)),
    Case(
        "checkpoint-notes-swapped",
        (NOTE.format("(SELECT note FROM audit_checkpoints WHERE size = 8)", 4),),
        checkpoint=4,
    ),
    Case("first-checkpoint-deleted", ("DELETE FROM audit_checkpoints WHERE size = 4",), checkpoint=4),
    Case("middle-checkpoint-deleted", ("DELETE FROM audit_checkpoints WHERE size = 8",), checkpoint=8),
    Case("last-checkpoint-deleted", ("DELETE FROM audit_checkpoints WHERE size = 12",), checkpoint=12),
    Case(
        "last-checkpoint-deleted-and-head-moved",
        ("DELETE FROM audit_checkpoints WHERE size = 12", "UPDATE audit_head SET kept = 8"),
        checkpoint=12,
    ),
    Case("all-checkpoints-deleted", ("DELETE FROM audit_checkpoints",), checkpoint=12),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_change_is_told_and_where(rig: AuditRig, tmp_path: Path, case: Case) -> None:
    verify(rig, witnessed=True)
    rig.change(*case.statements)
    told = tampering(rig, tmp_path)
    if case.entry is not None:
        assert told.details["entry"] == case.entry
    if case.checkpoint is not None:
        assert told.details["checkpoint"] == case.checkpoint


@pytest.mark.parametrize("at", [0, 6, SIZE - 1])
@pytest.mark.parametrize("byte", [0, 31])
def test_a_flipped_leaf_hash_names_its_entry(rig: AuditRig, tmp_path: Path, at: int, byte: int) -> None:
    with rig.db.read() as tx:
        leaf = bytearray(store.read_hashes(tx, 0, at, at + 1)[0])
    leaf[byte] ^= 1
    rig.change(ENTRY.format("leaf_hash = :leaf", at), leaf=bytes(leaf))
    assert tampering(rig, tmp_path).details["entry"] == at


@pytest.mark.parametrize("byte", [0, 40, -1])
def test_flipped_peaks_of_the_head_are_told(rig: AuditRig, tmp_path: Path, byte: int) -> None:
    with rig.db.read() as tx:
        peaks = bytearray(b"".join(store.get_head(tx).tree.peaks))
    peaks[byte] ^= 0x80
    rig.change("UPDATE audit_head SET peaks = :peaks", peaks=bytes(peaks))
    assert "head" in tampering(rig, tmp_path).message


def test_every_character_of_a_note_counts(rig: AuditRig) -> None:
    with rig.db.read() as tx:
        row = store.list_checkpoints(tx)[1]
    for at, character in enumerate(row.note):
        other = "A" if character != "A" else "B"
        forged = row.note[:at] + other + row.note[at + 1 :]
        rig.change("UPDATE audit_checkpoints SET note = :note WHERE size = 8", note=forged)
        with pytest.raises(AuditTamperedError):
            verify(rig)


def test_an_entry_moved_with_its_hash_is_called_reordered(rig: AuditRig, tmp_path: Path) -> None:
    rig.change(
        ENTRY.format("sequence = -1", 3), ENTRY.format("sequence = 3", 9), ENTRY.format("sequence = 9", -1)
    )
    assert "found entry 9 there: reordered" in tampering(rig, tmp_path).message


def forged_entry(rig: AuditRig, sequence: int) -> bytes:
    """Replace an entry's actor together with its leaf hash, and return that hash."""
    with rig.db.read() as tx:
        entry, _ = next(service.search(tx, after=sequence - 1, limit=1))
    forged = Entry(sequence, entry.at, "operator:bob", entry.action, entry.subject, entry.details)
    leaf = hash_leaf(render_entry(forged))
    rig.change(ENTRY.format("actor = 'operator:bob', leaf_hash = :leaf", sequence), leaf=leaf)
    return leaf


@pytest.mark.parametrize("sequence", range(SIZE))
def test_an_entry_replaced_with_its_hash_lies_in_the_range_told(
    rig: AuditRig, tmp_path: Path, sequence: int
) -> None:
    forged_entry(rig, sequence)
    told = tampering(rig, tmp_path).details
    start = sequence // 4 * 4
    assert (told["entry"], told["last"]) == (start, min(start + 4, SIZE) - 1)


def rebuilt(rig: AuditRig, size: int) -> Tree:
    """Return the tree over the stored leaf hashes, as a forger computes it."""
    tree = Tree()
    with rig.db.read() as tx:
        for leaf in store.read_hashes(tx, 0, 0, size):
            tree, _ = tree.append(leaf)
    return tree


def set_head(rig: AuditRig, tree: Tree) -> None:
    rig.change(
        "UPDATE audit_head SET size = :size, peaks = :peaks", size=tree.size, peaks=b"".join(tree.peaks)
    )


def test_the_newest_entry_cannot_be_replaced_though_no_checkpoint_covers_it(
    rig: AuditRig, tmp_path: Path
) -> None:
    forged_entry(rig, SIZE - 1)
    set_head(rig, rebuilt(rig, SIZE))
    assert "head" in tampering(rig, tmp_path).message


def test_the_newest_entry_cannot_be_removed_though_no_checkpoint_covers_it(
    rig: AuditRig, tmp_path: Path
) -> None:
    rig.change("DELETE FROM audit_entries WHERE sequence = 13")
    set_head(rig, rebuilt(rig, 13))
    assert tampering(rig, tmp_path).details["entry"] == 13


@pytest.mark.parametrize("is_head_moved", [False, True])
def test_an_entry_put_in_at_the_end_is_told(rig: AuditRig, tmp_path: Path, *, is_head_moved: bool) -> None:
    rig.change(
        "INSERT INTO audit_entries SELECT 14, at, actor, action, subject, details, leaf_hash"
        " FROM audit_entries WHERE sequence = 13"
    )
    forged_entry(rig, 14)
    if is_head_moved:
        set_head(rig, rebuilt(rig, 15))
    assert tampering(rig, tmp_path).details["entry"] == 14


def test_a_forged_head_is_not_signed_by_the_next_change(rig: AuditRig, tmp_path: Path) -> None:
    rig.change("DELETE FROM audit_entries WHERE sequence = 13")
    set_head(rig, rebuilt(rig, 13))
    rig.append(1)
    assert "head" in tampering(rig, tmp_path).message
    assert rig.keeper.keep() is None
    assert rig.keeper.keep() is None
    with rig.db.read() as tx:
        told = [(event.kind, event.severity) for event in list_events(tx)]
    assert told == [("audit.tampered", Severity.CRITICAL)]


def test_stored_nodes_are_proved_too(rig: AuditRig, tmp_path: Path) -> None:
    with rig.db.write("operator:alice") as tx:
        for _ in range(300):
            service.append(tx, "device.registered", "device:many")
    verify(rig)
    rig.change('UPDATE audit_nodes SET hash = :hash WHERE level = 8 AND "index" = 0', hash=b"\0" * 32)
    assert tampering(rig, tmp_path).details == {"entry": 0, "last": 255}
    rig.change("DELETE FROM audit_nodes")
    assert tampering(rig, tmp_path).details == {"entry": 0, "last": 255}


def test_a_node_beyond_the_log_is_told(rig: AuditRig, tmp_path: Path) -> None:
    rig.change('INSERT INTO audit_nodes (level, "index", hash) VALUES (8, 7, :hash)', hash=b"\0" * 32)
    assert "node 8/7" in tampering(rig, tmp_path).message


def test_a_log_replaced_and_signed_with_another_key_is_told(rig: AuditRig, tmp_path: Path) -> None:
    rig.rewrite(Ed25519PrivateKey.generate(), count=SIZE, checkpoint_every=4)
    assert "another" in tampering(rig, tmp_path).message


def roll_back(rig: AuditRig, size: int) -> None:
    """Put the database back to what it was when the checkpoint at `size` was kept."""
    tree = rebuilt(rig, size)
    rig.change(
        "DELETE FROM audit_entries WHERE sequence >= :size",
        "DELETE FROM audit_checkpoints WHERE size > :size",
        "UPDATE audit_head SET size = :size, kept = :size, peaks = :peaks,"
        " note = (SELECT note FROM audit_checkpoints WHERE size = :size)",
        size=size,
        peaks=b"".join(tree.peaks),
    )


def test_an_older_copy_of_the_database_is_told_by_the_witness_alone(rig: AuditRig, tmp_path: Path) -> None:
    roll_back(rig, 8)
    assert verify(rig).size == 8, "an older state of the log was true once: nothing in it is wrong"
    assert tampering(rig, tmp_path, witnessed=True).details["entry"] == 8


def test_a_log_replaced_and_signed_with_the_stolen_key_is_told_by_the_witness(
    rig: AuditRig, tmp_path: Path
) -> None:
    rig.rewrite(rig.key, count=SIZE, checkpoint_every=4)
    assert verify(rig).size == SIZE
    told = tampering(rig, tmp_path, witnessed=True)
    assert "the witness" in told.message
    assert (told.details["entry"], told.details["last"]) == (0, 3)


def test_a_running_platform_notices_an_older_copy_without_a_witness(rig: AuditRig) -> None:
    rig.witness.find_last()
    rig.keeper.keep()
    roll_back(rig, 8)
    assert rig.keeper.keep() is None
    with rig.db.read() as tx:
        assert [event.kind for event in list_events(tx)] == ["audit.tampered"]


@pytest.mark.parametrize("how", ["rolled back", "rewritten"])
def test_a_restarted_platform_vouches_for_no_log_that_the_witness_denies(rig: AuditRig, how: str) -> None:
    seen = rig.witness.read()
    if how == "rolled back":
        roll_back(rig, 8)
    else:
        rig.rewrite(rig.key, count=SIZE, checkpoint_every=4)
    rig.start()
    rig.append(3)
    assert rig.keeper.keep() is None
    assert rig.witness.read() == seen
    with rig.db.read() as tx:
        told = [(event.kind, event.severity) for event in list_events(tx)]
        assert store.get_head(tx).kept <= 12
    assert told == [("audit.tampered", Severity.CRITICAL)]
