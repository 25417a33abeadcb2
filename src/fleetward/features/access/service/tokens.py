"""Tokens: made, listed, revoked. The secret is returned once and kept as a hash."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id
from fleetward.features.access import store
from fleetward.features.access.model.device_codes import DeviceCode
from fleetward.features.access.model.identity import actor_of
from fleetward.features.access.model.secrets import (
    API_TOKEN_PREFIX,
    CLI_TOKEN_PREFIX,
    hash_secret,
    new_secret,
)
from fleetward.features.access.model.tokens import (
    CLI_LIFETIME,
    Token,
    check_lifetime,
    parse_token_name,
)

_MAX_TOKENS = 100


@dataclass(frozen=True)
class NewToken:
    token: Token
    secret: str = field(repr=False)


def create(tx: Tx, operator: str, name: str, scopes: frozenset[str], lifetime: timedelta) -> NewToken:
    """Make a token of `operator` for a program, limited to `scopes`.

    Raises:
        InvalidInputError: the name, or a lifetime over 90 days.
        ConflictError: the operator has a hundred.
    """
    if len(store.tokens.list_live(tx, operator)) >= _MAX_TOKENS:
        raise ConflictError(f"operator {operator}: expected fewer than {_MAX_TOKENS} tokens, found no fewer")
    expires_at = tx.now + check_lifetime(lifetime)
    token = Token(
        new_id("tok"), operator, "api", parse_token_name(name), scopes, tx.now, expires_at, None, None
    )
    return _insert(tx, token, API_TOKEN_PREFIX)


def create_for_cli(tx: Tx, operator: str, code: DeviceCode) -> NewToken:
    """Make the token that `operator` approved: a command line's of twelve hours, or the program's asked for.

    Raises:
        InvalidInputError, ConflictError: as `create`.
    """
    tx = replace(tx, actor=actor_of(operator))
    if code.token_name is not None and code.token_lifetime_s is not None and code.scopes is not None:
        return create(tx, operator, code.token_name, code.scopes, timedelta(seconds=code.token_lifetime_s))
    token = Token(
        new_id("tok"), operator, "cli", code.client[:64], code.scopes, tx.now, tx.now + CLI_LIFETIME, None,
        None, mfa_at=code.answered_at,
    )  # fmt: skip
    return _insert(tx, token, CLI_TOKEN_PREFIX)


def list_live(tx: Tx, operator: str) -> list[Token]:
    """Return the operator's tokens that still work, newest first."""
    return store.tokens.list_live(tx, operator)


def revoke(tx: Tx, operator: str, token_id: str) -> None:
    """Revoke a token of `operator` now. Raises NotFoundError: none of theirs."""
    found = store.tokens.find(tx, token_id)
    if found is None or found.operator != operator or not store.tokens.revoke(tx, token_id):
        raise NotFoundError(f"token {token_id[:64]}: expected one of yours that works, found none")
    journal.record(tx, "token.revoked", f"operator:{operator}", token=token_id, name=found.name)
    emit(tx, "token.revoked", f"Token {found.name} of {operator} was revoked.", severity=Severity.NOTICE,
         operator=operator, token=token_id)  # fmt: skip


def _insert(tx: Tx, token: Token, prefix: str) -> NewToken:
    secret = new_secret(prefix)
    store.tokens.insert(tx, token, hash_secret(secret))
    facts: dict[str, Any] = {
        "token": token.id,
        "name": token.name,
        "token_kind": token.kind,
        "scopes": None if token.scopes is None else sorted(token.scopes),
        "expires_at": token.expires_at.isoformat(),
    }
    journal.record(tx, "token.created", f"operator:{token.operator}", **facts)
    emit(tx, "token.created", f"Token {token.name} of {token.operator} was made.", severity=Severity.NOTICE,
         operator=token.operator, **facts)  # fmt: skip
    return NewToken(token, secret)
