"""Releases wait for the approval of two operators."""

import sqlalchemy as sa
from alembic import op

from fleetward.base.db import RowId

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "release_approvals",
        sa.Column("release", RowId, nullable=False),
        sa.Column("operator", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("release", "operator", name="pk_release_approvals"),
        sa.ForeignKeyConstraint(["release"], ["releases.id"], name="fk_release_approvals_release"),
    )
    op.add_column("releases", sa.Column("rejected_at", sa.BigInteger, nullable=True))
    op.add_column("releases", sa.Column("rejected_by", sa.String(64), nullable=True))
    op.add_column("releases", sa.Column("rejected_reason", sa.String(200), nullable=True))
