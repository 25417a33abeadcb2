"""What operators prove themselves with: passkeys, passwords, sealed TOTP secrets, hashed recovery codes."""

import sqlalchemy as sa

from fleetward.base.db import Timestamp, metadata

_OPERATOR = "access_operators.name"

passkeys = sa.Table(
    "access_passkeys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("operator", sa.String(64), sa.ForeignKey(_OPERATOR), nullable=False, index=True),
    sa.Column("credential_id", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("label", sa.String(64), nullable=False),
    sa.Column("aaguid", sa.String(36), nullable=False),
    sa.Column("backed_up", sa.Boolean, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("last_used_at", Timestamp, nullable=True),
)
passwords = sa.Table(
    "access_passwords",
    metadata,
    sa.Column("operator", sa.String(64), sa.ForeignKey(_OPERATOR), primary_key=True),
    sa.Column("hash", sa.String(256), nullable=False),
    sa.Column("changed_at", Timestamp, nullable=False),
)
totp = sa.Table(
    "access_totp",
    metadata,
    sa.Column("operator", sa.String(64), sa.ForeignKey(_OPERATOR), primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
)
recovery_codes = sa.Table(
    "access_recovery_codes",
    metadata,
    sa.Column("code_hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("operator", sa.String(64), sa.ForeignKey(_OPERATOR), nullable=False, index=True),
    sa.Column("used_at", Timestamp, nullable=True),
)
