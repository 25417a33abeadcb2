"""Sign-ins at an OpenID provider in progress."""

import sqlalchemy as sa

from fleetward.base.db import Timestamp, metadata

oidc_logins = sa.Table(
    "access_oidc_logins",
    metadata,
    sa.Column("state_hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("browser_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("nonce", sa.String(64), nullable=False),
    sa.Column("sealed_verifier", sa.LargeBinary, nullable=False),
    sa.Column("next_path", sa.String(500), nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
)
