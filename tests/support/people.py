"""Operators as tests need them: named, active, with roles."""

from fleetward.base.db import Database, Tx
from fleetward.base.events import Event, list_events
from fleetward.features.access.model.identity import Grant
from fleetward.features.access.model.roles import Role
from fleetward.features.access.service import grants, operators
from fleetward.features.access.store.operators import OperatorState

EVERYWHERE = "*"


def add_operator(tx: Tx, name: str, *roles: Role | tuple[Role, str]) -> list[Grant]:
    """Make an operator who could sign in, when there is none of the name; a role alone is for all groups."""
    if name not in {one.name for one in operators.list_all(tx)}:
        operators.create(tx, name, name.title(), OperatorState.ACTIVE)
    pairs = [one if isinstance(one, tuple) else (one, EVERYWHERE) for one in roles]
    return [grants.give(tx, name, role, group) for role, group in pairs]


def events_of(db: Database, prefix: str) -> list[Event]:
    with db.read() as tx:
        return [event for event in list_events(tx) if event.kind.startswith(prefix)]
