"""Saved filters, acknowledgements of events, and the indices that the console's pages read."""

import sqlalchemy as sa
from alembic import op

from fleetward.base.db import RowId

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "overview_filters",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("filter", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_overview_filters"),
        sa.UniqueConstraint("owner", "name", name="uq_overview_filters_owner_name"),
        if_not_exists=True,
    )
    op.create_table(
        "overview_acknowledgements",
        sa.Column("event", RowId, primary_key=True, autoincrement=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("event", name="pk_overview_acknowledgements"),
        if_not_exists=True,
    )
    op.execute("UPDATE devices SET firmware_version = '' WHERE firmware_version IS NULL")
    for column in ("model", "group", "state"):
        op.drop_index(f"ix_devices_{column}", "devices", if_exists=True)
    for name, columns in (
        ("model_id", ["model", "id"]),
        ("state_id", ["state", "id"]),
        ("firmware_id", ["firmware_version", "id"]),
        ("changed_id", ["state_changed_at", "id"]),
        ("group_id", ["group", "id"]),
        ("counts", ["state", "model", "firmware_version", "group", "id"]),
    ):
        op.create_index(f"ix_devices_{name}", "devices", columns, if_not_exists=True)
    for name, table, columns, where in (
        ("ix_events_alerts", "events", ["at"], "severity IN ('warning', 'critical')"),
        ("ix_attestation_appraisals_bad", "attestation_appraisals", ["device", "id"], "NOT good"),
    ):
        condition = sa.text(where)
        op.create_index(
            name, table, columns, sqlite_where=condition, postgresql_where=condition, if_not_exists=True
        )
