"""One-time links: setup and invitations."""

import sqlalchemy as sa

from fleetward.base.db import Timestamp, metadata

links = sa.Table(
    "access_links",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("token_hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("operator", sa.String(64), nullable=True),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("closed_at", Timestamp, nullable=True),
)
