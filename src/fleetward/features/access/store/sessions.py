"""Sessions of browsers: the cookie's secret is kept as a hash."""

import sqlalchemy as sa

from fleetward.base.db import Timestamp, metadata

sessions = sa.Table(
    "access_sessions",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("secret_hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("operator", sa.String(64), sa.ForeignKey("access_operators.name"), nullable=False, index=True),
    sa.Column("method", sa.String(16), nullable=False),
    sa.Column("restricted", sa.Boolean, nullable=False),
    sa.Column("mfa_at", Timestamp, nullable=True),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("user_agent", sa.String(200), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("last_seen_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("ended_at", Timestamp, nullable=True),
)
