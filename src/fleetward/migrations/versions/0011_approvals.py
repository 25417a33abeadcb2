"""Releases wait for the approval of two operators."""

import sqlalchemy as sa
from alembic import op

from fleetward.base.db import RowId

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "release_approvals",
        sa.Column("release", RowId, nullable=False),
        sa.Column("operator", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("release", "operator", name="pk_release_approvals"),
        sa.ForeignKeyConstraint(["release"], ["releases.id"], name="fk_release_approvals_release"),
        if_not_exists=True,
    )
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("releases")}
    for column in (
        sa.Column("rejected_at", sa.BigInteger, nullable=True),
        sa.Column("rejected_by", sa.String(64), nullable=True),
        sa.Column("rejected_reason", sa.String(200), nullable=True),
    ):
        if column.name not in present:
            op.add_column("releases", column)
