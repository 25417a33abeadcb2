"""Use cases of the audit log. `append` runs inside the transaction of the change it records."""

from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleetward.base.db import Tx
from fleetward.features.audit import store
from fleetward.features.audit.model import Checkpoint, Entry, hash_leaf, render_entry, sign_checkpoint


def append(tx: Tx, action: str, subject: str, **details: Any) -> int:
    """Record one state change in its own transaction and return its sequence number.

    Args:
        action: `<noun>.<past participle>`, e.g. `device.revoked`.
        subject: what changed, e.g. `device:cam-1`.
        details: JSON values; never a secret.
    """
    tree = store.lock_tree(tx)
    entry = Entry(tree.size, tx.now, tx.actor, action, subject, details)
    leaf = hash_leaf(render_entry(entry))
    store.insert_entry(tx, entry, leaf)
    store.update_tree(tx, tree.append(leaf))
    return entry.sequence


def checkpoint(tx: Tx, key: Ed25519PrivateKey, origin: str) -> Checkpoint | None:
    """Sign the log's present root; None when the last checkpoint already says it."""
    tree = store.lock_tree(tx)
    if store.last_checkpoint_size(tx) == tree.size:
        return None
    signed = sign_checkpoint(tree, origin, key)
    store.insert_checkpoint(tx, signed.size, signed.note)
    return signed


def search(
    tx: Tx,
    *,
    after: int = -1,
    limit: int = 1000,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> Iterator[tuple[Entry, bytes]]:
    """Yield matching entries in order, each with its leaf hash."""
    return store.list_entries(tx, after=after, limit=limit, actor=actor, action=action, subject=subject)


def list_checkpoints(tx: Tx) -> list[str]:
    """Return every signed note, smallest log first."""
    return store.list_checkpoints(tx)
