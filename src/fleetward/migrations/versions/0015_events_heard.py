"""Which handlers have handled which events, so that a repeat changes nothing."""

import sqlalchemy as sa
from alembic import op

from fleetward.base.db import RowId

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "events_heard",
        sa.Column("handler", sa.String(64), nullable=False),
        sa.Column("event", RowId, nullable=False, autoincrement=False),
        sa.Column("event_at", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("handler", "event", "event_at", name="pk_events_heard"),
        if_not_exists=True,
    )
    op.create_index("ix_events_heard_at", "events_heard", ["at"], if_not_exists=True)
