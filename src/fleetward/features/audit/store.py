"""The audit log's SQL. Rows are only ever inserted; the head is the one row that moves."""

import json
from collections.abc import Iterator

import sqlalchemy as sa

from fleetward.base.db import RowId, Timestamp, Tx, metadata
from fleetward.features.audit.model import Entry, Tree

entries = sa.Table(
    "audit_entries",
    metadata,
    sa.Column("sequence", RowId, primary_key=True, autoincrement=False),
    sa.Column("at", Timestamp, nullable=False, index=True),
    sa.Column("actor", sa.String(128), nullable=False, index=True),
    sa.Column("action", sa.String(64), nullable=False, index=True),
    sa.Column("subject", sa.String(200), nullable=False, index=True),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("leaf_hash", sa.LargeBinary(32), nullable=False),
)
head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("peaks", sa.LargeBinary, nullable=False),
)
checkpoints = sa.Table(
    "audit_checkpoints",
    metadata,
    sa.Column("size", RowId, primary_key=True, autoincrement=False),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

_HASH_BYTES = 32
_HEAD_ID = 1
# Every change appends: these are built and compiled once, their values come beside them.
_INSERT = entries.insert()
_LOCK = head.select().where(head.c.id == _HEAD_ID).with_for_update()
_MOVE = head.update().where(head.c.id == _HEAD_ID)


def lock_tree(tx: Tx) -> Tree:
    """Return the tree and hold its head until the transaction ends, so that appends queue up."""
    row = tx.conn.execute(_LOCK).one()
    return _as_tree(row.size, row.peaks)


def get_tree(tx: Tx) -> Tree:
    row = tx.conn.execute(head.select().where(head.c.id == _HEAD_ID)).one()
    return _as_tree(row.size, row.peaks)


def insert_entry(tx: Tx, entry: Entry, leaf: bytes) -> None:
    tx.conn.execute(
        _INSERT,
        {
            "sequence": entry.sequence,
            "at": entry.at,
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "details": json.dumps(entry.details, sort_keys=True, separators=(",", ":")),
            "leaf_hash": leaf,
        },
    )


def update_tree(tx: Tx, tree: Tree) -> None:
    tx.conn.execute(_MOVE, {"size": tree.size, "peaks": b"".join(tree.peaks)})


def insert_checkpoint(tx: Tx, size: int, note: str) -> None:
    tx.conn.execute(checkpoints.insert().values(size=size, at=tx.now, note=note))


def last_checkpoint_size(tx: Tx) -> int:
    size: int = tx.conn.execute(sa.select(sa.func.coalesce(sa.func.max(checkpoints.c.size), -1))).scalar_one()
    return size


def list_checkpoints(tx: Tx) -> list[str]:
    return list(tx.conn.execute(sa.select(checkpoints.c.note).order_by(checkpoints.c.size)).scalars())


def list_entries(
    tx: Tx,
    *,
    after: int = -1,
    limit: int = 1000,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> Iterator[tuple[Entry, bytes]]:
    """Yield up to `limit` entries with a sequence over `after`, in order, with their leaf hashes."""
    query = entries.select().where(entries.c.sequence > after).order_by(entries.c.sequence).limit(limit)
    for column, value in ((entries.c.actor, actor), (entries.c.action, action), (entries.c.subject, subject)):
        if value is not None:
            query = query.where(column == value)
    for row in tx.conn.execute(query):
        yield (
            Entry(row.sequence, row.at, row.actor, row.action, row.subject, json.loads(row.details)),
            row.leaf_hash,
        )


def _as_tree(size: int, peaks: bytes) -> Tree:
    return Tree(size, tuple(peaks[i : i + _HASH_BYTES] for i in range(0, len(peaks), _HASH_BYTES)))
