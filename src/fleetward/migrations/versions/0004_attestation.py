"""Attestation: vendors, challenges, keys, reference values, appraisals."""

import sqlalchemy as sa
from alembic import op

from fleetward.base.db import RowId

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "attestation_ek_anchors",
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(500), nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_attestation_ek_anchors"),
        if_not_exists=True,
    )
    op.create_table(
        "attestation_challenges",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("nonce", sa.LargeBinary(64), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=True),
        sa.Column("ek_fingerprint", sa.String(64), nullable=True),
        sa.Column("ak_public", sa.LargeBinary, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attestation_challenges"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_attestation_challenges_device", "attestation_challenges", ["device"], if_not_exists=True
    )
    op.create_index(
        "ix_attestation_challenges_expires_at", "attestation_challenges", ["expires_at"], if_not_exists=True
    )
    op.create_table(
        "attestation_keys",
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("ek_fingerprint", sa.String(64), nullable=False),
        sa.Column("public", sa.LargeBinary, nullable=False),
        sa.Column("activated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("device", name="pk_attestation_keys"),
        if_not_exists=True,
    )
    op.create_table(
        "attestation_references",
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.Column("withdrawn_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("model", "kind", "digest", "version", name="pk_attestation_references"),
        if_not_exists=True,
    )
    op.create_table(
        "attestation_appraisals",
        sa.Column("id", RowId, primary_key=True, autoincrement=True),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("good", sa.Boolean, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("firmware_version", sa.String(64), nullable=True),
        sa.Column("reset_count", sa.BigInteger, nullable=False),
        sa.Column("restart_count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attestation_appraisals"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_attestation_appraisals_device", "attestation_appraisals", ["device", "id"], if_not_exists=True
    )
