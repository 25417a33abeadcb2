"""Gives and removes roles, audited. Who may give what to whom is judged before, by the policies."""

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id, parse_id
from fleetward.features.access import store
from fleetward.features.access.model.identity import Grant
from fleetward.features.access.model.roles import ALL_GROUPS, Role
from fleetward.features.access.store.operators import OperatorState


class LastAdministratorError(ConflictError):
    """Nobody would be left who may give rights."""

    code = "last_administrator"


def give(tx: Tx, operator: str, role: Role, group: str) -> Grant:
    """Give `operator` a role in a group, or in all groups (`*`).

    Raises:
        InvalidInputError: `group` is neither an id nor `*`.
        NotFoundError: no such operator.
        ConflictError: they hold it already.
    """
    if group != ALL_GROUPS:
        parse_id(group, what="group")
    if store.operators.find(tx, operator) is None:
        raise NotFoundError(f"operator {operator}: expected an operator, found none")
    if any((held.role, held.group) == (role, group) for held in store.grants.list_grants(tx, operator)):
        raise ConflictError(f"operator {operator}: expected not to hold {role} in {group} yet, found they do")
    grant = Grant(new_id("gr"), operator, role, group, tx.actor, tx.now, None)
    store.grants.insert(tx, grant)
    _record(tx, "grant.given", grant, f"{tx.actor} gave {operator} the role {role} in {_name(group)}.")
    return grant


def remove(tx: Tx, grant_id: str) -> Grant:
    """Remove a grant and return what it was.

    Raises:
        NotFoundError: no such grant.
        LastAdministratorError: no administrator would remain.
    """
    grant = store.grants.find(tx, grant_id)
    if grant is None or not store.grants.delete(tx, grant_id):
        raise NotFoundError(f"grant {grant_id}: expected a grant, found none")
    message = f"{tx.actor} took the role {grant.role} in {_name(grant.group)} from {grant.operator}."
    _record(tx, "grant.removed", grant, message)
    if (grant.role, grant.group) == (Role.ADMINISTRATOR, ALL_GROUPS):
        check_administrator_remains(tx)
    return grant


def is_last_administrator(tx: Tx, grant: Grant) -> bool:
    """Whether removing this grant would leave nobody who is administrator of all groups."""
    active = {one.name for one in store.operators.list_all(tx) if one.state is OperatorState.ACTIVE}
    return (grant.role, grant.group) == (Role.ADMINISTRATOR, ALL_GROUPS) and not any(
        (one.role, one.group) == (grant.role, grant.group) and one.operator in active - {grant.operator}
        for one in store.grants.list_grants(tx)
    )


def check_administrator_remains(tx: Tx) -> None:
    """Pass when somebody active is administrator of all groups.

    Call it after the change and its audit entry: appending to the log makes two such changes wait in line.

    Raises:
        LastAdministratorError: nobody is.
    """
    active = {one.name for one in store.operators.list_all(tx) if one.state is OperatorState.ACTIVE}
    held = {(one.operator, one.role, one.group) for one in store.grants.list_grants(tx)}
    if not any((name, Role.ADMINISTRATOR, ALL_GROUPS) in held for name in active):
        raise LastAdministratorError(
            "operators: expected an administrator of all groups to remain, found none",
            hint="Make someone else administrator first: fleetward operator role NAME --give administrator",
        )


def list_grants(tx: Tx, operator: str | None = None) -> list[Grant]:
    """Return the grants of one operator, or of all."""
    return store.grants.list_grants(tx, operator)


def _record(tx: Tx, action: str, grant: Grant, message: str) -> None:
    facts = {"grant": grant.id, "role": grant.role.value, "group": grant.group}
    journal.record(tx, action, f"operator:{grant.operator}", **facts)
    emit(tx, action, message, severity=Severity.NOTICE, operator=grant.operator, **facts)


def _name(group: str) -> str:
    return "all groups" if group == ALL_GROUPS else f"group {group}"
