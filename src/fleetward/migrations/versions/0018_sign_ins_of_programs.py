"""Sign-ins of programs: network, what was asked for, when answered. Tokens: when two factors were given.

All may be null, so that the release before goes on writing rows; a token without a proof is not fresh.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    codes = {column["name"] for column in inspector.get_columns("access_device_codes")}
    tokens = {column["name"] for column in inspector.get_columns("access_tokens")}
    if "network" not in codes:
        op.add_column("access_device_codes", sa.Column("network", sa.String(64), nullable=True))
    if "scopes" not in codes:
        op.add_column("access_device_codes", sa.Column("scopes", sa.Text, nullable=True))
    if "token_name" not in codes:
        op.add_column("access_device_codes", sa.Column("token_name", sa.String(64), nullable=True))
    if "token_lifetime_s" not in codes:
        op.add_column("access_device_codes", sa.Column("token_lifetime_s", sa.BigInteger, nullable=True))
    if "answered_at" not in codes:
        op.add_column("access_device_codes", sa.Column("answered_at", sa.BigInteger, nullable=True))
    if "mfa_at" not in tokens:
        op.add_column("access_tokens", sa.Column("mfa_at", sa.BigInteger, nullable=True))
