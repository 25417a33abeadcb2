"""The audit log's SQL. Rows are only ever inserted; the head is the one row that moves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from fleetward.base.db import RowId, Timestamp, Tx, metadata
from fleetward.features.audit.model.entry import HASH_BYTES, Entry, from_micros, read_entry, render_details
from fleetward.features.audit.model.log import Head, KeptCheckpoint
from fleetward.features.audit.model.notes import Checkpoint
from fleetward.features.audit.model.tree import Node, Tree

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
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("kept", sa.BigInteger, nullable=False, server_default="0"),
)
checkpoints = sa.Table(
    "audit_checkpoints",
    metadata,
    sa.Column("size", RowId, primary_key=True, autoincrement=False),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)
nodes = sa.Table(
    "audit_nodes",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("index", RowId, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
)

_HEAD_ID = 1
# Seven milliseconds of a core: then others may go on.
_READ_ROWS = 250
# Every change appends: these are built and compiled once, their values come beside them.
_INSERT = entries.insert()
_INSERT_NODE = nodes.insert()
_LOCK = head.select().where(head.c.id == _HEAD_ID).with_for_update()
_MOVE = head.update().where(head.c.id == _HEAD_ID)
# A time as its bare number: a forged one need not be a time at all.
_ROW = sa.select(
    entries.c.sequence,
    sa.type_coerce(entries.c.at, sa.BigInteger),
    entries.c.actor,
    entries.c.action,
    entries.c.subject,
    entries.c.details,
    entries.c.leaf_hash,
).order_by(entries.c.sequence)
_LEAVES = (
    sa.select(entries.c.leaf_hash)
    .where(entries.c.sequence >= sa.bindparam("start"), entries.c.sequence < sa.bindparam("end"))
    .order_by(entries.c.sequence)
)
_NODES = (
    sa.select(nodes.c.hash)
    .where(
        nodes.c.level == sa.bindparam("level"),
        nodes.c.index >= sa.bindparam("start"),
        nodes.c.index < sa.bindparam("end"),
    )
    .order_by(nodes.c.index)
)


@dataclass(frozen=True)
class Filter:
    """Which entries; `action` is a prefix, `since` is included, `until` is not."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def lock_head(tx: Tx) -> Head:
    """Return the head and hold it until the transaction ends, so that appends queue up."""
    return _as_head(tx.conn.execute(_LOCK).one())


def get_head(tx: Tx) -> Head:
    return _as_head(tx.conn.execute(head.select().where(head.c.id == _HEAD_ID)).one())


def insert_entry(tx: Tx, entry: Entry, leaf: bytes) -> None:
    tx.conn.execute(
        _INSERT,
        {
            "sequence": entry.sequence,
            "at": entry.at,
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "details": render_details(entry.details),
            "leaf_hash": leaf,
        },
    )


def insert_nodes(tx: Tx, completed: Sequence[Node]) -> None:
    for node in completed:
        tx.conn.execute(_INSERT_NODE, {"level": node.level, "index": node.index, "hash": node.hash})


def move_head(tx: Tx, tree: Tree, note: str) -> None:
    tx.conn.execute(_MOVE, {"size": tree.size, "peaks": b"".join(tree.peaks), "note": note})


def keep_checkpoint(tx: Tx, signed: Checkpoint) -> None:
    at = from_micros(signed.at_us or 0)
    tx.conn.execute(checkpoints.insert(), {"size": signed.size, "at": at, "note": signed.note})
    tx.conn.execute(_MOVE, {"kept": signed.size})


def adopt_head(tx: Tx, note: str, kept: int) -> None:
    tx.conn.execute(_MOVE, {"note": note, "kept": kept})


def find_checkpoint(tx: Tx, size: int) -> str | None:
    note: str | None = tx.conn.execute(
        sa.select(checkpoints.c.note).where(checkpoints.c.size == size)
    ).scalar()
    return note


def list_checkpoints(tx: Tx, *, after: int = -1, limit: int | None = None) -> list[KeptCheckpoint]:
    """Return kept checkpoints of more than `after` entries, smallest first."""
    at = sa.type_coerce(checkpoints.c.at, sa.BigInteger)
    query = sa.select(checkpoints.c.size, at, checkpoints.c.note).where(checkpoints.c.size > after)
    rows = tx.conn.execute(query.order_by(checkpoints.c.size).limit(limit))
    return [KeptCheckpoint(*row) for row in rows]


def list_entries(tx: Tx, wanted: Filter, *, after: int, limit: int) -> Iterator[tuple[Entry, bytes]]:
    """Yield up to `limit` entries with a sequence over `after`, in order, with their leaf hashes.

    Raises:
        AuditTamperedError: a row is not as it was written.
    """
    query = _ROW.where(entries.c.sequence > after).limit(limit)
    for column, value in ((entries.c.actor, wanted.actor), (entries.c.subject, wanted.subject)):
        if value is not None:
            query = query.where(column == value)
    if wanted.action is not None:
        query = query.where(entries.c.action.startswith(wanted.action, autoescape=True))
    if wanted.since is not None:
        query = query.where(entries.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(entries.c.at < wanted.until)
    for row in tx.conn.execute(query):
        yield read_entry(row)


def find_last(tx: Tx, action: str) -> datetime | None:
    """Return the time of the newest entry of an action, None when there is none."""
    query = sa.select(entries.c.at).where(entries.c.action == action)
    return tx.conn.execute(query.order_by(entries.c.sequence.desc()).limit(1)).scalar()


def read_all(tx: Tx, *, rest: Callable[[], None] = lambda: None) -> Iterator[tuple[Entry, bytes]]:
    """Yield every entry in order, with its leaf hash, a page at a time. Raises AuditTamperedError.

    Args:
        rest: called after each full page.
    """
    after: int | None = None
    while True:
        page = _ROW if after is None else _ROW.where(entries.c.sequence > after)
        rows = tx.conn.execute(page.limit(_READ_ROWS)).all()
        for row in rows:
            yield read_entry(row)
        if len(rows) < _READ_ROWS:
            return
        after = rows[-1].sequence
        rest()


def read_hashes(tx: Tx, level: int, start: int, end: int) -> list[bytes]:
    """Return stored hashes of one level, from index `start` up to `end`."""
    values = {"start": start, "end": end}
    if level == 0:
        return list(tx.conn.execute(_LEAVES, values).scalars())
    return list(tx.conn.execute(_NODES, {**values, "level": level}).scalars())


def all_nodes(tx: Tx) -> dict[tuple[int, int], bytes]:
    rows = tx.conn.execute(sa.select(nodes.c.level, nodes.c.index, nodes.c.hash))
    return {(level, index): bytes(found) for level, index, found in rows}


def _as_head(row: sa.Row[tuple[int, bytes, str, int]]) -> Head:
    peaks = bytes(row.peaks)
    split = tuple(peaks[at : at + HASH_BYTES] for at in range(0, len(peaks), HASH_BYTES))
    return Head(Tree(row.size, split), row.note, row.kept)
