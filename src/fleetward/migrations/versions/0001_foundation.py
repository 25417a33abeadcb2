"""Events and the audit log."""

import sqlalchemy as sa
from alembic import op

from fleetward.base.db import RowId

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("device", sa.String(64), nullable=True),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("message", sa.String(500), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("published_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        if_not_exists=True,
    )
    op.create_index("ix_events_at", "events", ["at"], if_not_exists=True)
    op.create_index("ix_events_device", "events", ["device"], if_not_exists=True)
    unpublished = sa.text("published_at IS NULL")
    op.create_index(
        "ix_events_unpublished",
        "events",
        ["id"],
        sqlite_where=unpublished,
        postgresql_where=unpublished,
        if_not_exists=True,
    )
    op.create_table(
        "audit_entries",
        sa.Column("sequence", RowId, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit_entries"),
        if_not_exists=True,
    )
    for column in ("at", "actor", "action", "subject"):
        op.create_index(f"ix_audit_entries_{column}", "audit_entries", [column], if_not_exists=True)
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("peaks", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        if_not_exists=True,
    )
    head = sa.table("audit_head", sa.column("id"), sa.column("size"), sa.column("peaks"))
    size, peaks = sa.literal(0, sa.BigInteger), sa.literal(b"", sa.LargeBinary)
    is_there = sa.exists(sa.select(head.c.id))
    op.execute(
        sa.insert(head).from_select(
            ["id", "size", "peaks"], sa.select(sa.literal(1), size, peaks).where(~is_there)
        )
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", RowId, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_audit_checkpoints"),
        if_not_exists=True,
    )
