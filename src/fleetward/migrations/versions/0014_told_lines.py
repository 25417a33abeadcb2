"""Which log lines of devices became events: a repeat is found by this key, not among the events."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "told_lines",
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("device", "key", name="pk_told_lines"),
        if_not_exists=True,
    )
    op.create_index("ix_told_lines_at", "told_lines", ["at"], if_not_exists=True)
