"""The audit log's head is signed; the roots of its full subtrees are stored, so that proofs are quick."""

import sqlalchemy as sa
from alembic import op

from fleetward.base.db import RowId
from fleetward.features.audit.model.tree import Node, Tree

revision = "0013"
down_revision = "0012"

_BATCH = 10_000


def upgrade() -> None:
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("audit_head")}
    for column in (
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        sa.Column("kept", sa.BigInteger, nullable=False, server_default="0"),
    ):
        if column.name not in present:
            op.add_column("audit_head", column)
    nodes = op.create_table(
        "audit_nodes",
        sa.Column("level", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("index", RowId, nullable=False, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("level", "index", name="pk_audit_nodes"),
        if_not_exists=True,
    )
    if op.get_bind().execute(sa.select(sa.func.count()).select_from(nodes)).scalar_one():
        return
    for completed in _completed_nodes():
        op.bulk_insert(nodes, [vars(node) for node in completed])


def _completed_nodes() -> list[list[Node]]:
    """Return the nodes of the log as it is, from its leaf hashes."""
    found: list[list[Node]] = []
    tree, is_more = Tree(), True
    while is_more:
        rows = op.get_bind().execute(
            sa.text(
                "SELECT leaf_hash FROM audit_entries WHERE sequence >= :start ORDER BY sequence LIMIT :n"
            ),
            {"start": tree.size, "n": _BATCH},
        )
        before = tree.size
        for (leaf,) in rows:
            tree, completed = tree.append(bytes(leaf))
            if completed:
                found.append(completed)
        is_more = tree.size - before == _BATCH
    return found
