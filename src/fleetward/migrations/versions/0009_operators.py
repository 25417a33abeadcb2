"""Operators: who they are, how they prove it, what they were given."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_NAME = sa.String(64)
_HASH = sa.LargeBinary(32)


def _key(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _maybe(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def upgrade() -> None:
    _create_people()
    _create_credentials()
    _create_sessions()
    _create_ceremonies()


def _of_operator(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["operator"], ["access_operators.name"], name=f"fk_{table}_operator")


def _create_people() -> None:
    op.create_table(
        "access_operators",
        _key("name", _NAME),
        _key("display_name", sa.String(128)),
        _key("state", sa.String(16)),
        _key("webauthn_id", _HASH),
        _maybe("issuer", sa.String(200)),
        _maybe("subject", sa.String(255)),
        _key("created_by", sa.String(128)),
        _key("created_at", sa.BigInteger),
        _maybe("last_seen_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("name", name="pk_access_operators"),
        sa.UniqueConstraint("webauthn_id", name="uq_access_operators_webauthn_id"),
        sa.UniqueConstraint("issuer", "subject", name="uq_access_operators_issuer_subject"),
        if_not_exists=True,
    )
    op.create_table(
        "access_grants",
        _key("id", _NAME),
        _key("operator", _NAME),
        _key("role", sa.String(32)),
        _key("group", _NAME),
        _key("given_by", sa.String(128)),
        _key("given_at", sa.BigInteger),
        _maybe("last_used_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_access_grants"),
        _of_operator("access_grants"),
        sa.UniqueConstraint("operator", "role", "group", name="uq_access_grants_operator_role_group"),
        if_not_exists=True,
    )


def _create_credentials() -> None:
    op.create_table(
        "access_passkeys",
        _key("id", _NAME),
        _key("operator", _NAME),
        _key("credential_id", sa.LargeBinary),
        _key("public_key", sa.LargeBinary),
        _key("sign_count", sa.BigInteger),
        _key("label", _NAME),
        _key("aaguid", sa.String(36)),
        _key("backed_up", sa.Boolean),
        _key("created_at", sa.BigInteger),
        _maybe("last_used_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_access_passkeys"),
        _of_operator("access_passkeys"),
        sa.UniqueConstraint("credential_id", name="uq_access_passkeys_credential_id"),
        if_not_exists=True,
    )
    op.create_index("ix_access_passkeys_operator", "access_passkeys", ["operator"], if_not_exists=True)
    op.create_table(
        "access_passwords",
        _key("operator", _NAME),
        _key("hash", sa.String(256)),
        _key("changed_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("operator", name="pk_access_passwords"),
        _of_operator("access_passwords"),
        if_not_exists=True,
    )
    op.create_table(
        "access_totp",
        _key("operator", _NAME),
        _key("sealed", sa.LargeBinary),
        _key("last_step", sa.BigInteger),
        _key("created_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("operator", name="pk_access_totp"),
        _of_operator("access_totp"),
        if_not_exists=True,
    )
    op.create_table(
        "access_recovery_codes",
        _key("code_hash", _HASH),
        _key("operator", _NAME),
        _maybe("used_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("code_hash", name="pk_access_recovery_codes"),
        _of_operator("access_recovery_codes"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_access_recovery_codes_operator", "access_recovery_codes", ["operator"], if_not_exists=True
    )


def _create_sessions() -> None:
    op.create_table(
        "access_sessions",
        _key("id", _NAME),
        _key("secret_hash", _HASH),
        _key("operator", _NAME),
        _key("method", sa.String(16)),
        _key("restricted", sa.Boolean),
        _maybe("mfa_at", sa.BigInteger),
        _key("address", _NAME),
        _key("user_agent", sa.String(200)),
        _key("created_at", sa.BigInteger),
        _key("last_seen_at", sa.BigInteger),
        _key("expires_at", sa.BigInteger),
        _maybe("ended_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_access_sessions"),
        _of_operator("access_sessions"),
        sa.UniqueConstraint("secret_hash", name="uq_access_sessions_secret_hash"),
        if_not_exists=True,
    )
    op.create_index("ix_access_sessions_operator", "access_sessions", ["operator"], if_not_exists=True)
    op.create_table(
        "access_tokens",
        _key("id", _NAME),
        _key("secret_hash", _HASH),
        _key("operator", _NAME),
        _key("kind", sa.String(8)),
        _key("name", _NAME),
        _maybe("scopes", sa.Text),
        _key("created_at", sa.BigInteger),
        _key("expires_at", sa.BigInteger),
        _maybe("last_used_at", sa.BigInteger),
        _maybe("revoked_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_access_tokens"),
        _of_operator("access_tokens"),
        sa.UniqueConstraint("secret_hash", name="uq_access_tokens_secret_hash"),
        if_not_exists=True,
    )
    op.create_index("ix_access_tokens_operator", "access_tokens", ["operator"], if_not_exists=True)
    op.create_table(
        "access_throttle",
        _key("key", sa.String(128)),
        _key("failures", sa.Integer),
        _key("last_failed_at", sa.BigInteger),
        _key("blocked_until", sa.BigInteger),
        sa.PrimaryKeyConstraint("key", name="pk_access_throttle"),
        if_not_exists=True,
    )


def _create_ceremonies() -> None:
    op.create_table(
        "access_links",
        _key("id", _NAME),
        _key("token_hash", _HASH),
        _key("kind", sa.String(16)),
        _maybe("operator", _NAME),
        _key("created_by", sa.String(128)),
        _key("created_at", sa.BigInteger),
        _key("expires_at", sa.BigInteger),
        _maybe("closed_at", sa.BigInteger),
        _maybe("challenge", sa.LargeBinary),
        _maybe("sealed_totp", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_access_links"),
        sa.UniqueConstraint("token_hash", name="uq_access_links_token_hash"),
        if_not_exists=True,
    )
    op.create_table(
        "access_spent_challenges",
        _key("challenge_hash", _HASH),
        _key("expires_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("challenge_hash", name="pk_access_spent_challenges"),
        if_not_exists=True,
    )
    op.create_table(
        "access_device_codes",
        _key("id", _NAME),
        _key("device_code_hash", _HASH),
        _key("user_code", sa.String(16)),
        _key("client", sa.String(100)),
        _key("address", _NAME),
        _key("state", sa.String(16)),
        _maybe("operator", _NAME),
        _key("created_at", sa.BigInteger),
        _key("expires_at", sa.BigInteger),
        _key("interval_s", sa.Integer),
        _maybe("polled_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_access_device_codes"),
        sa.UniqueConstraint("device_code_hash", name="uq_access_device_codes_device_code_hash"),
        sa.UniqueConstraint("user_code", name="uq_access_device_codes_user_code"),
        if_not_exists=True,
    )
