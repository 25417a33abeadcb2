"""Claims, answers given, factories, shipments and the TPM lane's open attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "enrollment_claims",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=True),
        sa.Column("used_by", sa.String(64), nullable=True),
        sa.Column("withdrawn_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name="pk_enrollment_claims"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_enrollment_claims_device_id"),
        if_not_exists=True,
    )
    op.create_index("ix_enrollment_claims_device_id", "enrollment_claims", ["device_id"], if_not_exists=True)
    op.create_table(
        "enrollment_answers",
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("key_fingerprint", sa.String(64), nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("not_after", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("device_id", "key_fingerprint", name="pk_enrollment_answers"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_enrollment_answers_device_id"),
        if_not_exists=True,
    )
    op.create_table(
        "enrollment_factories",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("idevid_authorities", sa.Text, nullable=False),
        sa.Column("trusted_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_enrollment_factories"),
        if_not_exists=True,
    )
    op.create_table(
        "enrollment_shipments",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("factory", sa.String(64), nullable=False),
        sa.Column("batch", sa.String(64), nullable=False),
        sa.Column("devices", sa.Integer, nullable=False),
        sa.Column("imported_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_enrollment_shipments"),
        if_not_exists=True,
    )
    op.create_table(
        "enrollment_attempts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("ek_fingerprint", sa.String(64), nullable=False),
        sa.Column("claim_hash", sa.String(64), nullable=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_enrollment_attempts"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_enrollment_attempts_device_id"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_enrollment_attempts_device_id", "enrollment_attempts", ["device_id"], if_not_exists=True
    )
    op.create_index(
        "ix_enrollment_attempts_expires_at", "enrollment_attempts", ["expires_at"], if_not_exists=True
    )
