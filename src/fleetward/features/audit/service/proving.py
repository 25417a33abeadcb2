"""Proofs about single entries and about growth, against the log's signed notes."""

from dataclasses import dataclass

from fleetward.base.db import Tx
from fleetward.base.errors import NotFoundError
from fleetward.features.audit import store
from fleetward.features.audit.model import proofs
from fleetward.features.audit.model.entry import AuditTamperedError, Entry
from fleetward.features.audit.model.log import Head
from fleetward.features.audit.model.tree import ReadHashes, root_of


@dataclass(frozen=True)
class Inclusion:
    """That `entry` is in the log of `size` entries; `note` signs that log, None where none was kept."""

    entry: Entry
    leaf: bytes
    size: int
    path: list[bytes]
    root: bytes
    note: str | None


@dataclass(frozen=True)
class Consistency:
    """That the log of `second` entries begins with that of `first`; the notes sign each, where kept."""

    first: int
    second: int
    path: list[bytes]
    roots: tuple[bytes, bytes]
    notes: tuple[str | None, str | None]


def read_head(tx: Tx) -> Head:
    """Return where the log ends now."""
    return store.get_head(tx)


def list_checkpoints(tx: Tx, *, after: int = -1, limit: int | None = None) -> list[tuple[int, str]]:
    """Return size and signed note of kept checkpoints of more than `after` entries, smallest first."""
    return [(row.size, row.note) for row in store.list_checkpoints(tx, after=after, limit=limit)]


def prove_inclusion(tx: Tx, sequence: int, size: int | None = None) -> Inclusion:
    """Prove that an entry is in the log of `size` entries, or in the log as it is now.

    Raises:
        NotFoundError: that log holds no such entry, or the log is shorter than `size`.
        AuditTamperedError: what the proof rests on is gone.
    """
    head = store.get_head(tx)
    size = _check_size(head, size)
    read = _reader(tx)
    path = proofs.prove_inclusion(sequence, size, read)
    entry, leaf = _get_entry(tx, sequence)
    return Inclusion(entry, leaf, size, path, root_of(0, size, read), _find_note(tx, head, size))


def prove_consistency(tx: Tx, first: int, second: int | None = None) -> Consistency:
    """Prove that the log of `second` entries, or as it is now, begins with that of `first`.

    Raises:
        NotFoundError: the log is shorter than asked for.
    """
    head = store.get_head(tx)
    second = _check_size(head, second)
    read = _reader(tx)
    path = proofs.prove_consistency(first, second, read)
    roots = (root_of(0, first, read), root_of(0, second, read))
    return Consistency(
        first, second, path, roots, (_find_note(tx, head, first), _find_note(tx, head, second))
    )


def _get_entry(tx: Tx, sequence: int) -> tuple[Entry, bytes]:
    found = next(store.list_entries(tx, store.Filter(), after=sequence - 1, limit=1), None)
    if found is None or found[0].sequence != sequence:
        raise AuditTamperedError(
            f"audit entry {sequence}: expected it stored, found it removed", entry=sequence
        )
    return found


def _check_size(head: Head, size: int | None) -> int:
    if size is None:
        return head.tree.size
    if size > head.tree.size:
        raise NotFoundError(f"audit log of {size} entries: expected at most {head.tree.size}, found more")
    return size


def _find_note(tx: Tx, head: Head, size: int) -> str | None:
    if size == head.tree.size:
        return head.note or None
    return store.find_checkpoint(tx, size)


def _reader(tx: Tx) -> ReadHashes:
    return lambda level, start, end: store.read_hashes(tx, level, start, end)
