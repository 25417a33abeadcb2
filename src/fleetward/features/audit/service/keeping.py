"""Signs the log's end, keeps checkpoints of it, and refuses to vouch for a log that was rewritten."""

from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fleetward.base.db import Database, Tx
from fleetward.base.errors import UnavailableError
from fleetward.base.events import Severity, emit
from fleetward.features.audit import store
from fleetward.features.audit.model.entry import AuditTamperedError
from fleetward.features.audit.model.log import Head
from fleetward.features.audit.model.notes import (
    Checkpoint,
    hash_key,
    parse_checkpoint,
    render_body,
    render_note,
    verify_checkpoint,
)
from fleetward.features.audit.model.tree import Tree, root_of
from fleetward.features.audit.ports import Witness


class LogNotary:
    """The log's name and key; seals its end in every transaction that appends."""

    def __init__(self, key: Ed25519PrivateKey, origin: str) -> None:
        self._key = key
        self._key_hash = hash_key(origin, key.public_key())
        self.origin = origin
        self.public_key: Ed25519PublicKey = key.public_key()
        # The last note and what it states: known to be ours, and the one asked for nearly always.
        self._signed: tuple[str, int, tuple[bytes, ...]] = ("", 0, ())

    def seal(self, size: int, peaks: tuple[bytes, ...], *, at: datetime, previous: int) -> str:
        """Return a signed note that states the log."""
        body = render_body(Tree(size, peaks), self.origin, at=at, previous=previous)
        note = render_note(body, self.origin, self._key_hash, self._key.sign(body.encode()))
        self._signed = (note, size, peaks)
        return note

    def is_sealed(self, note: str, size: int, peaks: tuple[bytes, ...]) -> bool:
        """Say whether `note` is ours and states this log."""
        if (note, size, peaks) == self._signed:
            return True
        try:
            found = verify_checkpoint(note, self.public_key)
        except AuditTamperedError:
            return False
        return (found.size, found.root) == (size, Tree(size, peaks).root)


def adopt(tx: Tx, notary: LogNotary) -> None:
    """Sign the head of a log written before heads were signed; call once in a log's life."""
    head = store.lock_head(tx)
    if head.tree.size and not head.note:
        last = max((row.size for row in store.list_checkpoints(tx)), default=0)
        note = notary.seal(head.tree.size, head.tree.peaks, at=tx.now, previous=last)
        store.adopt_head(tx, note, last)


@dataclass(frozen=True)
class _Problem:
    """Why no checkpoint is kept."""

    message: str
    is_witness_lost: bool = False


class Keeper:
    """Keeps a checkpoint whenever the log has grown. One per process; a single thread calls it.

    Before it vouches, the log must continue what it last kept itself, and what the witness saw last. If it
    does not, nothing is kept or witnessed any more and a critical event says why.
    """

    def __init__(self, db: Database, notary: LogNotary, witness: Witness | None) -> None:
        self._db = db
        self._notary = notary
        self._witness = witness
        self._seen: Head | None = None
        self._told: _Problem | None = None

    def keep(self) -> Checkpoint | None:
        """Keep the log's signed end as a checkpoint; None when there is nothing new or it may not."""
        with self._db.read() as tx:
            head = store.get_head(tx)
        if head == self._seen and self._told is None:
            return None
        with self._db.write("system:audit") as tx:
            head = store.lock_head(tx)
            kept = None
            problem = self._find_problem(tx, head)
            if problem is None and head.tree.size > head.kept:
                problem, kept = self._keep(tx, head)
            if problem is not None and problem != self._told:
                _tell(tx, problem, head.tree.size)
        self._told = problem
        if problem is None:
            self._seen = Head(head.tree, head.note, head.tree.size)
        return kept

    def _find_problem(self, tx: Tx, head: Head) -> _Problem | None:
        tree = head.tree
        if tree.size and not self._notary.is_sealed(head.note, tree.size, tree.peaks):
            return _Problem("The audit log's end is not what the platform signed.")
        if self._seen is not None and not _continues(tx, tree, self._seen.tree.size, self._seen.tree.root):
            return _Problem("The audit log no longer holds what it held a moment ago.")
        return None if self._witness is None else self._find_disagreement(tx, tree, self._witness)

    def _find_disagreement(self, tx: Tx, tree: Tree, witness: Witness) -> _Problem | None:
        try:
            note = witness.find_last()
            seen = verify_checkpoint(note, self._notary.public_key) if note is not None else None
        except UnavailableError as error:
            return _Problem(error.message, is_witness_lost=True)
        except AuditTamperedError:
            return _Problem("The witness's last checkpoint is not one of this platform.")
        if seen is not None and not _continues(tx, tree, seen.size, seen.root):
            return _Problem(f"The audit log no longer holds the {seen.size} entries the witness saw.")
        return None

    def _keep(self, tx: Tx, head: Head) -> tuple[_Problem | None, Checkpoint | None]:
        # The witness first: the head it sees is committed, and a lost answer only repeats the note.
        try:
            if self._witness is not None:
                self._witness.append(head.note)
        except UnavailableError as error:
            return _Problem(error.message, is_witness_lost=True), None
        checkpoint = parse_checkpoint(head.note)
        store.keep_checkpoint(tx, checkpoint)
        return None, checkpoint


def _tell(tx: Tx, problem: _Problem, size: int) -> None:
    if problem.is_witness_lost:
        emit(tx, "audit.witness_unavailable", problem.message, severity=Severity.CRITICAL, entries=size)
    else:
        emit(tx, "audit.tampered", problem.message, severity=Severity.CRITICAL, entries=size)


def _continues(tx: Tx, tree: Tree, size: int, root: bytes) -> bool:
    if size > tree.size:
        return False
    if size == tree.size:
        return root == tree.root
    try:
        return root_of(0, size, lambda level, start, end: store.read_hashes(tx, level, start, end)) == root
    except AuditTamperedError:  # stored hashes are missing
        return False
