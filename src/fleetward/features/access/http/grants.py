"""Operator routes of roles and of who holds them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter

from fleetward.base.errors import NotFoundError
from fleetward.base.web import Db, Principal, requires
from fleetward.features.access.http.asking import Ctx
from fleetward.features.access.http.operators import GrantBody
from fleetward.features.access.http.views import GrantView, view_grant
from fleetward.features.access.model.roles import ABOUT, Role, parse_role
from fleetward.features.access.service import grants

router = APIRouter(tags=["operators"])


@dataclass(frozen=True)
class RoleView:
    """A role, and what it may do where it is held."""

    role: Role
    description: str
    permissions: list[str]


@router.get("/roles")
def list_roles(db: Db, ctx: Ctx, _principal: Annotated[Principal, requires("role.read")]) -> list[RoleView]:
    """Return every role with its permissions, as the policies decide."""
    now = db.clock.now()
    return [RoleView(role, ABOUT[role], ctx.decider.permissions_of_role(role, now)) for role in Role]


@router.post("/operators/{name}/grants", status_code=201)
def give_grant(
    db: Db, name: str, body: GrantBody, principal: Annotated[Principal, requires("grant.give")]
) -> GrantView:
    """Give another operator a role."""
    role = parse_role(body.role)
    with db.write(principal.actor) as tx:
        return view_grant(grants.give(tx, name, role, body.group))


@router.delete("/operators/{name}/grants/{grant_id}", status_code=204)
def remove_grant(
    db: Db, name: str, grant_id: str, principal: Annotated[Principal, requires("grant.remove")]
) -> None:
    """Take a role from an operator; the last administrator keeps theirs."""
    with db.write(principal.actor) as tx:
        if grant_id not in {one.id for one in grants.list_grants(tx, name)}:
            raise NotFoundError(f"grant {grant_id[:64]}: expected one of operator {name[:64]}, found none")
        grants.remove(tx, grant_id)
