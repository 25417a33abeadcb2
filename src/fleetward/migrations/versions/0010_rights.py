"""Access reviews and break-glass."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "access_reviews",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("title", sa.String(128), nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger, nullable=True),
        sa.Column("closed_by", sa.String(128), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_access_reviews"),
        if_not_exists=True,
    )
    op.create_table(
        "access_review_items",
        sa.Column("review", sa.String(64), nullable=False),
        sa.Column("grant_id", sa.String(64), nullable=False),
        sa.Column("operator", sa.String(64), nullable=False),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("group", sa.String(64), nullable=False),
        sa.Column("given_by", sa.String(128), nullable=False),
        sa.Column("given_at", sa.BigInteger, nullable=False),
        sa.Column("last_used_at", sa.BigInteger, nullable=True),
        sa.Column("proposal", sa.String(16), nullable=False),
        sa.Column("why", sa.String(200), nullable=False),
        sa.Column("decision", sa.String(16), nullable=True),
        sa.Column("decided_by", sa.String(64), nullable=True),
        sa.Column("decided_at", sa.BigInteger, nullable=True),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=True),
        sa.PrimaryKeyConstraint("review", "grant_id", name="pk_access_review_items"),
        sa.ForeignKeyConstraint(["review"], ["access_reviews.id"], name="fk_access_review_items_review"),
        if_not_exists=True,
    )
    op.create_table(
        "access_break_glass",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("requester", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("requested_at", sa.BigInteger, nullable=False),
        sa.Column("approver", sa.String(64), nullable=True),
        sa.Column("approved_at", sa.BigInteger, nullable=True),
        sa.Column("first_entry", sa.BigInteger, nullable=True),
        sa.Column("ended_at", sa.BigInteger, nullable=True),
        sa.Column("ended_by", sa.String(64), nullable=True),
        sa.Column("reviewer", sa.String(64), nullable=True),
        sa.Column("reviewed_at", sa.BigInteger, nullable=True),
        sa.Column("findings", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_access_break_glass"),
        sa.ForeignKeyConstraint(
            ["requester"], ["access_operators.name"], name="fk_access_break_glass_requester"
        ),
        if_not_exists=True,
    )
    op.create_index(
        "ix_access_break_glass_requester", "access_break_glass", ["requester"], if_not_exists=True
    )
