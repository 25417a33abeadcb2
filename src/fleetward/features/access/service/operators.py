"""Operators' lives: invited → active ⇄ disabled. Nobody is deleted: the audit log names them for good."""

import hashlib

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.features.access import store
from fleetward.features.access.model.identity import parse_operator_name
from fleetward.features.access.model.roles import ALL_GROUPS, Role
from fleetward.features.access.service import grants, sessions
from fleetward.features.access.store.operators import Operator, OperatorState

_MAX_DISPLAY_CHARS = 128


def create(
    tx: Tx,
    name: str,
    display_name: str,
    state: OperatorState,
    *,
    issuer: str | None = None,
    subject: str | None = None,
) -> Operator:
    """Record a new operator. Raises InvalidInputError, ConflictError: the name is taken."""
    parse_operator_name(name)
    if store.operators.find(tx, name) is not None:
        raise ConflictError(f"operator {name}: expected a new name, found it taken")
    operator = Operator(
        name=name,
        display_name=parse_display_name(display_name, name),
        state=state,
        webauthn_id=webauthn_id_for(name),
        issuer=issuer,
        subject=subject,
        created_by=tx.actor,
        created_at=tx.now,
        last_seen_at=None,
    )
    store.operators.insert(tx, operator)
    journal.record(tx, "operator.created", f"operator:{name}", state=state.value, issuer=issuer)
    emit(tx, "operator.created", f"Operator {name} was created.", severity=Severity.NOTICE, operator=name)
    return operator


def invite(tx: Tx, name: str, display_name: str) -> Operator:
    """Return the operator to invite: new, or invited before. Raises ConflictError: they came already."""
    found = store.operators.find(tx, name)
    if found is None:
        return create(tx, name, display_name, OperatorState.INVITED)
    if found.state is not OperatorState.INVITED:
        raise ConflictError(
            f"operator {name}: expected a new name, found them {found.state}",
            hint=f"Did they lose their factors? fleetward operator recover {name}",
        )
    journal.record(tx, "operator.invited_again", f"operator:{name}")
    return found


def get(tx: Tx, name: str) -> Operator:
    """Return an operator. Raises NotFoundError."""
    found = store.operators.find(tx, name)
    if found is None:
        raise NotFoundError(f"operator {name[:64]}: expected an operator, found none")
    return found


def list_all(tx: Tx) -> list[Operator]:
    return store.operators.list_all(tx)


def any_exists(tx: Tx) -> bool:
    return store.operators.any_exists(tx)


def count_factors(tx: Tx, name: str) -> store.credentials.Factors:
    return store.credentials.count_factors(tx, name)


def list_passkeys(tx: Tx, name: str) -> list[store.credentials.Passkey]:
    return store.credentials.list_passkeys(tx, name)


def disable(tx: Tx, name: str, reason: str) -> Operator:
    """Keep an operator from signing in, and end their sessions and tokens now.

    Raises:
        NotFoundError: no such operator.
        ConflictError: they are disabled already, or the last active administrator of all groups.
    """
    operator = get(tx, name)
    if operator.state is OperatorState.DISABLED:
        raise ConflictError(f"operator {name}: expected an enabled operator, found them disabled")
    check_not_last_administrator(tx, name)
    _move(tx, operator, OperatorState.DISABLED)
    sessions.end_all(tx, name, why="the operator was disabled")
    store.tokens.revoke_all(tx, name)
    for kind in store.links.LinkKind:
        store.links.close_all(tx, kind, name)
    message = f"Operator {name} was disabled by {tx.actor}."
    _record(tx, "operator.disabled", name, message, Severity.WARNING, reason=reason)
    if any(one.role is Role.ADMINISTRATOR for one in store.grants.list_grants(tx, name)):
        # Once more, now that the audit log's head is held: two may have disabled each other at once.
        grants.check_administrator_remains(tx)
    return get(tx, name)


def enable(tx: Tx, name: str) -> Operator:
    """Let a disabled operator sign in again: those without factors by a new invitation.

    Raises:
        NotFoundError: no such operator.
        ConflictError: they are not disabled.
    """
    operator = get(tx, name)
    if operator.state is not OperatorState.DISABLED:
        raise ConflictError(f"operator {name}: expected a disabled operator, found them {operator.state}")
    factors = store.credentials.count_factors(tx, name)
    can_sign_in = factors.passkeys or (factors.password and factors.totp) or operator.subject
    _move(tx, operator, OperatorState.ACTIVE if can_sign_in else OperatorState.INVITED)
    _record(tx, "operator.enabled", name, f"Operator {name} was enabled by {tx.actor}.", Severity.NOTICE)
    return get(tx, name)


def record_recovery(tx: Tx, name: str) -> Operator:
    """Tell everybody that an operator's factors are about to be replaced; open sessions end.

    Raises:
        NotFoundError: no such operator.
        ConflictError: they are disabled.
    """
    operator = get(tx, name)
    if operator.state is OperatorState.DISABLED:
        raise ConflictError(f"operator {name}: expected an enabled operator, found them disabled")
    sessions.end_all(tx, name, why="the account is being recovered")
    store.tokens.revoke_all(tx, name)
    message = f"{tx.actor} made a link that replaces every factor of operator {name}."
    _record(tx, "operator.recovered", name, message, Severity.CRITICAL)
    return operator


def check_not_last_administrator(tx: Tx, name: str) -> None:
    """Pass when somebody else active is administrator of all groups. Raises ConflictError."""
    administrators = {
        grant.operator
        for grant in store.grants.list_grants(tx)
        if grant.role is Role.ADMINISTRATOR and grant.group == ALL_GROUPS
    }
    active = {one.name for one in store.operators.list_all(tx) if one.state is OperatorState.ACTIVE}
    if administrators & active == {name}:
        raise ConflictError(
            f"operator {name}: expected another active administrator, found them to be the last",
            hint="Make somebody else administrator first.",
        )


def parse_display_name(text: str, name: str) -> str:
    """Return a name for people; `name` when `text` is blank. Raises InvalidInputError."""
    found = text.strip() or name
    if len(found) > _MAX_DISPLAY_CHARS or not found.isprintable():
        raise InvalidInputError(f"display_name: expected at most {_MAX_DISPLAY_CHARS} printable characters")
    return found


def webauthn_id_for(name: str) -> bytes:
    """Return the user handle authenticators keep: the same for a name, and not the name itself."""
    return hashlib.sha256(f"fleetward operator {name}".encode()).digest()


def _move(tx: Tx, operator: Operator, state: OperatorState) -> None:
    if not store.operators.update_state(tx, operator.name, operator.state, state):
        raise ConflictError(f"operator {operator.name}: expected them {operator.state}, found them changed")


def _record(tx: Tx, action: str, name: str, message: str, severity: Severity, **details: str) -> None:
    journal.record(tx, action, f"operator:{name}", **details)
    emit(tx, action, message, severity=severity, operator=name, **details)
