"""Shadows and commands."""

import sqlalchemy as sa
from alembic import op

from fleetward.base.db import RowId

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "shadows",
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("desired", sa.Text, nullable=False),
        sa.Column("desired_version", sa.BigInteger, nullable=False),
        sa.Column("desired_at", sa.BigInteger, nullable=True),
        sa.Column("reported", sa.Text, nullable=False),
        sa.Column("reported_version", sa.BigInteger, nullable=False),
        sa.Column("reported_at", sa.BigInteger, nullable=True),
        sa.Column("acknowledged_version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("device", name="pk_shadows"),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_shadows_device"),
        if_not_exists=True,
    )
    op.create_table(
        "commands",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("args", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("send_at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=True),
        sa.Column("result", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_commands"),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_commands_device"),
        if_not_exists=True,
    )
    op.create_index("ix_commands_device", "commands", ["device", "id"], if_not_exists=True)
    op.create_index("ix_commands_state", "commands", ["state", "send_at"], if_not_exists=True)
