"""Certificates and CRLs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(40), nullable=False),
        sa.Column("issuer", sa.String(64), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("not_before", sa.BigInteger, nullable=False),
        sa.Column("not_after", sa.BigInteger, nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger, nullable=True),
        sa.Column("revocation_reason", sa.String(32), nullable=True),
        sa.Column("crl_number", sa.BigInteger, nullable=True),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("serial", name="pk_certificates"),
        if_not_exists=True,
    )
    op.create_index("ix_certificates_device", "certificates", ["device", "issued_at"], if_not_exists=True)
    op.create_index("ix_certificates_not_after", "certificates", ["not_after"], if_not_exists=True)
    for name, column, where in (
        ("ix_certificates_revoked", "not_after", sa.text("revoked_at IS NOT NULL")),
        ("ix_certificates_unlisted", "issuer", sa.text("revoked_at IS NOT NULL AND crl_number IS NULL")),
    ):
        op.create_index(
            name, "certificates", [column], sqlite_where=where, postgresql_where=where, if_not_exists=True
        )
    op.create_table(
        "crls",
        sa.Column("issuer", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("this_update", sa.BigInteger, nullable=False),
        sa.Column("next_update", sa.BigInteger, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("issuer", name="pk_crls"),
        if_not_exists=True,
    )
