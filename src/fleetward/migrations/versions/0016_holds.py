"""Holds: named reasons why a device may have no session."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("device", "name", name="pk_holds"),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_holds_device_devices"),
        if_not_exists=True,
    )
    op.create_index("ix_holds_name_device", "holds", ["name", "device"], if_not_exists=True)
