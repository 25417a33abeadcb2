"""Who administers this platform, and what they sign in with."""

from fleetward.base.db import Tx
from fleetward.features.access.model.people import Person
from fleetward.features.access.model.roles import ALL_GROUPS, Role
from fleetward.features.access.service import grants, operators
from fleetward.features.access.service.authorize import list_active


def list_people(tx: Tx) -> list[Person]:
    """Return the operators who may sign in, by name."""
    administrators = {
        one.operator
        for one in grants.list_grants(tx)
        if one.role is Role.ADMINISTRATOR and one.group == ALL_GROUPS
    }
    found = []
    for name in sorted(list_active(tx)):
        factors = operators.count_factors(tx, name)
        person = Person(
            name=name,
            is_administrator=name in administrators,
            passkeys=factors.passkeys,
            has_totp=factors.password and factors.totp,
            recovery_codes_left=factors.recovery_codes_left,
        )
        found.append(person)
    return found
