"""The registry of models and devices."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("attestation", sa.String(16), nullable=False),
        sa.Column("min_tier", sa.String(16), nullable=False),
        sa.Column("cert_lifetime_s", sa.Integer, nullable=False),
        sa.Column("appraisal_lifetime_s", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        if_not_exists=True,
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("group", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tier", sa.String(16), nullable=True),
        sa.Column("hardware_kind", sa.String(16), nullable=True),
        sa.Column("hardware_fingerprint", sa.String(64), nullable=True),
        sa.Column("firmware_version", sa.String(64), nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("state_changed_at", sa.BigInteger, nullable=False),
        sa.Column("state_reason", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_devices"),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_devices_model"),
        sa.UniqueConstraint("hardware_fingerprint", name="uq_devices_hardware_fingerprint"),
        if_not_exists=True,
    )
    for column in ("model", "group", "state"):
        op.create_index(f"ix_devices_{column}", "devices", [column], if_not_exists=True)
