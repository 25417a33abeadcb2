"""Challenges handed to authenticators; each answers once."""

import sqlalchemy as sa

from fleetward.base.db import Timestamp, metadata

challenges = sa.Table(
    "access_challenges",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("purpose", sa.String(16), nullable=False),
    sa.Column("subject", sa.String(128), nullable=False, index=True),
    sa.Column("challenge", sa.LargeBinary(64), nullable=False),
    sa.Column("sealed_totp", sa.LargeBinary, nullable=True),
    sa.Column("expires_at", Timestamp, nullable=False),
)
