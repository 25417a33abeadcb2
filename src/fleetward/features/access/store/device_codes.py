"""Sign-ins of command lines in progress (RFC 8628)."""

import sqlalchemy as sa

from fleetward.base.db import Timestamp, metadata

device_codes = sa.Table(
    "access_device_codes",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("device_code_hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("user_code", sa.String(16), nullable=False, unique=True),
    sa.Column("client", sa.String(100), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("operator", sa.String(64), nullable=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("interval_s", sa.Integer, nullable=False),
    sa.Column("polled_at", Timestamp, nullable=True),
)
