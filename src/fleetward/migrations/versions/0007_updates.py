"""Firmware releases and the update metadata published for each model."""

import sqlalchemy as sa
from alembic import op

from fleetward.base.db import RowId

revision = "0007"
down_revision = "0006"

_ROLES = ("targets", "snapshot", "timestamp")


def upgrade() -> None:
    op.create_table(
        "releases",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("security_counter", sa.BigInteger, nullable=False),
        sa.Column("image_sha256", sa.String(64), nullable=False),
        sa.Column("image_sha512", sa.String(128), nullable=False),
        sa.Column("image_length", sa.BigInteger, nullable=False),
        sa.Column("sbom_sha256", sa.String(64), nullable=False),
        sa.Column("sbom_sha512", sa.String(128), nullable=False),
        sa.Column("sbom_length", sa.BigInteger, nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("published_at", sa.BigInteger, nullable=True),
        sa.Column("withdrawn_at", sa.BigInteger, nullable=True),
        sa.Column("withdrawn_reason", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_releases"),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_releases_model"),
        sa.UniqueConstraint("model", "version", name="uq_releases_model_version"),
        sa.UniqueConstraint("model", "security_counter", name="uq_releases_model_security_counter"),
        if_not_exists=True,
    )
    op.create_table(
        "update_repositories",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("root", sa.BigInteger, nullable=False),
        *(sa.Column(f"{role}_version", sa.BigInteger, nullable=True) for role in _ROLES),
        *(sa.Column(f"{role}_expires_at", sa.BigInteger, nullable=True) for role in _ROLES),
        sa.PrimaryKeyConstraint("model", name="pk_update_repositories"),
        sa.ForeignKeyConstraint(["model"], ["models.id"], name="fk_update_repositories_model"),
        if_not_exists=True,
    )
