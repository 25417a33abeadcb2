"""Failed sign-ins, counted per account and per address."""

import sqlalchemy as sa

from fleetward.base.db import Timestamp, metadata

throttle = sa.Table(
    "access_throttle",
    metadata,
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_failed_at", Timestamp, nullable=False),
    sa.Column("blocked_until", Timestamp, nullable=False),
)
