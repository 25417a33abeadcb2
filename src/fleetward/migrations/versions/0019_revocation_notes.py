"""Certificates keep why they were revoked in the words of whoever did it."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    if "revocation_note" not in {
        column["name"] for column in sa.inspect(op.get_bind()).get_columns("certificates")
    }:
        op.add_column("certificates", sa.Column("revocation_note", sa.String(200), nullable=True))
