"""What makes a whole log hold together, and which entry does not. Pure.

1. The notes of the checkpoints and of the head are signed, and each names the one kept before it.
2. Sequences run 0, 1, 2 … and each entry hashes to its stored leaf hash.
3. Each checkpoint, the head and whatever a witness saw names the root at its size.
4. The head ends where the entries end, and no statement lies beyond it.
5. Stored nodes, where given, are those of the entries.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fleetward.features.audit.model.entry import AuditTamperedError, Entry, render_entry
from fleetward.features.audit.model.notes import Checkpoint, verify_checkpoint
from fleetward.features.audit.model.tree import Node, Tree, hash_leaf

# How far an entry's old place is looked for: a forged export may claim any size.
_NEAR = 50_000


@dataclass(frozen=True)
class Head:
    """Where the log ends.

    Attributes:
        note: signed in the transaction of the last entry; "" before the first.
        kept: size of the last checkpoint.
    """

    tree: Tree
    note: str
    kept: int


@dataclass(frozen=True)
class KeptCheckpoint:
    """A checkpoint as stored: its note, and the columns beside it that the note must confirm."""

    size: int
    at_us: int
    note: str


@dataclass(frozen=True)
class Statements:
    """What is said of a log, by whom it must be signed or confirmed.

    Attributes:
        notes: kept checkpoints, smallest first.
        head: the end of the log.
        witnessed: notes that a witness kept, any order.
        nodes: stored nodes by level and index; None where the log was read without them.
    """

    notes: Sequence[str]
    head: Head
    witnessed: Sequence[str] = ()
    nodes: dict[tuple[int, int], bytes] | None = None


@dataclass
class _Expected:
    """The signed statements by size, and how far the log is proved."""

    roots: dict[int, list[tuple[str, Checkpoint]]] = field(default_factory=dict)
    trusted: int = 0

    def add(self, who: str, checkpoint: Checkpoint) -> None:
        self.roots.setdefault(checkpoint.size, []).append((who, checkpoint))

    def check(self, tree: Tree) -> None:
        found = self.roots.get(tree.size, ())
        for who, signed in found:
            if signed.root != tree.root:
                raise AuditTamperedError(
                    f"audit entries {self.trusted} to {tree.size - 1}: expected the root that {who} states, "
                    "found another: one of them was replaced together with its hash",
                    entry=self.trusted,
                    last=tree.size - 1,
                )
        self.trusted = tree.size if found else self.trusted


def verify_log(entries: Iterable[tuple[Entry, bytes]], statements: Statements, key: Ed25519PublicKey) -> Tree:
    """Return the tree of a whole log that holds together.

    Args:
        entries: each entry with its stored leaf hash, in order.

    Raises:
        AuditTamperedError: something was altered, removed or reordered; details name which.
    """
    expected = _verify_statements(statements, key)
    head, nodes = statements.head, dict(statements.nodes or {})
    tree = Tree()
    expected.check(tree)
    for entry, leaf in entries:
        _verify_entry(entry, leaf, tree.size, head.tree.size)
        tree, completed = tree.append(leaf)
        expected.check(tree)
        if statements.nodes is not None:
            _verify_nodes(completed, nodes)
    _verify_end(tree, head, expected)
    if nodes and statements.nodes is not None:
        level, index = min(nodes)
        raise AuditTamperedError(f"audit node {level}/{index}: expected none beyond the log, found one")
    return tree


def verify_kept(rows: Sequence[KeptCheckpoint], head: Head, key: Ed25519PublicKey) -> list[str]:
    """Return the notes of stored checkpoints whose columns say what their notes say.

    Raises:
        AuditTamperedError: a column was altered, or the last ones were removed.
    """
    for row in rows:
        signed = verify_checkpoint(row.note, key)
        if signed.size != row.size or signed.at_us not in (None, row.at_us):
            raise AuditTamperedError(
                f"audit checkpoint at {row.size}: expected the size and time that were signed, found others",
                checkpoint=row.size,
            )
    last = rows[-1].size if rows else 0
    if head.kept != last:
        raise AuditTamperedError(
            f"audit checkpoint at {head.kept}: expected it to be the last, found {last}", checkpoint=head.kept
        )
    return [row.note for row in rows]


def _verify_statements(statements: Statements, key: Ed25519PublicKey) -> _Expected:
    expected, last, last_note = _Expected(), 0, ""
    for note in statements.notes:
        signed = verify_checkpoint(note, key)
        _verify_chain(signed, last)
        expected.add("a checkpoint", signed)
        last, last_note = signed.size, note
    head = statements.head
    if head.note:
        signed = verify_checkpoint(head.note, key)
        if head.note != last_note:
            _verify_chain(signed, last)
        if signed.size != head.tree.size or signed.root != head.tree.root:
            raise AuditTamperedError(
                f"audit head: expected {signed.size} entries as signed, found {head.tree.size} or other ones",
                entry=min(signed.size, head.tree.size),
            )
        expected.add("the head", signed)
    elif head.tree.size or head.tree.peaks:
        raise AuditTamperedError(f"audit head at {head.tree.size}: expected it signed, found it is not")
    for note in statements.witnessed:
        expected.add("the witness", verify_checkpoint(note, key))
    return expected


def _verify_chain(signed: Checkpoint, last: int) -> None:
    if signed.previous is not None and signed.previous != last:
        raise AuditTamperedError(
            f"audit checkpoint at {signed.previous}: expected it before the one at {signed.size}, "
            f"found the one at {last}: it was removed or put in",
            checkpoint=signed.previous,
        )


def _verify_entry(entry: Entry, leaf: bytes, expected: int, size: int) -> None:
    if expected >= size:
        raise AuditTamperedError(
            f"audit entry {entry.sequence}: expected the log to end at {size}, found one more: put in",
            entry=entry.sequence,
        )
    if entry.sequence != expected:
        raise AuditTamperedError(
            f"audit entry {expected}: expected next in order, found {entry.sequence}: it was removed",
            entry=expected,
        )
    if hash_leaf(render_entry(entry)) == leaf:
        return
    near = range(max(0, expected - _NEAR), min(size, expected + _NEAR))
    place = next((at for at in near if hash_leaf(render_entry(replace(entry, sequence=at))) == leaf), -1)
    if place >= 0:
        raise AuditTamperedError(
            f"audit entry {expected}: expected in its place, found entry {place} there: reordered",
            entry=expected,
        )
    raise AuditTamperedError(
        f"audit entry {expected}: expected the content that was hashed, found it altered", entry=expected
    )


def _verify_nodes(completed: Sequence[Node], nodes: dict[tuple[int, int], bytes]) -> None:
    for node in completed:
        if nodes.pop((node.level, node.index), None) != node.hash:
            first = node.index << node.level
            raise AuditTamperedError(
                f"audit node {node.level}/{node.index}: expected the root of its entries, found another",
                entry=first,
                last=first + (1 << node.level) - 1,
            )


def _verify_end(tree: Tree, head: Head, expected: _Expected) -> None:
    farthest = max([*expected.roots, head.tree.size])
    if farthest > tree.size:
        raise AuditTamperedError(
            f"audit entry {tree.size}: expected {farthest} entries as signed, found {tree.size}: "
            "the last were removed",
            entry=tree.size,
        )
    if tree != head.tree:
        raise AuditTamperedError(
            f"audit head at {tree.size}: expected the peaks of its entries, found others", entry=tree.size
        )
