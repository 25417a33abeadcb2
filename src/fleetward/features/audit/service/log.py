"""Append, search, verify."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fleetward.base.db import Tx
from fleetward.base.errors import KeyUnavailableError
from fleetward.features.audit import store
from fleetward.features.audit.model.entry import Entry, render_entry
from fleetward.features.audit.model.log import Head, Statements, verify_kept, verify_log
from fleetward.features.audit.model.tree import Tree, hash_leaf


def append(tx: Tx, action: str, subject: str, **details: Any) -> int:
    """Record one state change in its own transaction and return its sequence number.

    Args:
        action: `<noun>.<past participle>`, e.g. `device.revoked`.
        subject: what changed, e.g. `device:cam-1`.
        details: JSON values; never a secret.

    Raises:
        KeyUnavailableError: the log is sealed, and the database was opened without its notary.
    """
    head = store.lock_head(tx)
    entry = Entry(head.tree.size, tx.now, tx.actor, action, subject, details)
    leaf = hash_leaf(render_entry(entry))
    grown, completed = head.tree.append(leaf)
    store.insert_entry(tx, entry, leaf)
    store.insert_nodes(tx, completed)
    store.move_head(tx, grown, _seal(tx, head, grown))
    return entry.sequence


def search(
    tx: Tx,
    *,
    after: int = -1,
    limit: int = 1000,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[tuple[Entry, bytes]]:
    """Yield matching entries in order, each with its leaf hash.

    Args:
        action: a whole action, or how it begins.
        since: the first time that counts.
        until: the first time that counts no more.
    """
    wanted = store.Filter(actor, action, subject, since, until)
    return store.list_entries(tx, wanted, after=after, limit=limit)


def find_last(tx: Tx, action: str) -> datetime | None:
    """Return when an action was last recorded, None when it never was."""
    return store.find_last(tx, action)


def verify(
    tx: Tx,
    key: Ed25519PublicKey,
    *,
    witnessed: Sequence[str] = (),
    rest: Callable[[], None] = lambda: None,
) -> Tree:
    """Return the tree of the whole log as stored, every column of every table checked.

    Args:
        rest: called after every few hundred entries, so that a long log does not hold up the process.

    Raises:
        AuditTamperedError: something was altered, removed or reordered; details name which.
    """
    head = store.get_head(tx)
    notes = verify_kept(store.list_checkpoints(tx), head, key)
    statements = Statements(notes, head, witnessed, store.all_nodes(tx))
    return verify_log(store.read_all(tx, rest=rest), statements, key)


def _seal(tx: Tx, head: Head, grown: Tree) -> str:
    """Return the signed note of the grown log; the old one where the log before was not as signed.

    The change itself goes on: who alters the log must not thereby stop a revocation. The note that no
    longer fits is the proof, and the keeper tells of it.
    """
    if tx.notary is None:
        if head.note:
            raise KeyUnavailableError("audit log: expected its key to seal the entry, found none")
        return ""
    if head.tree.size and not tx.notary.is_sealed(head.note, head.tree.size, head.tree.peaks):
        return head.note
    return tx.notary.seal(grown.size, grown.peaks, at=tx.now, previous=head.kept)
