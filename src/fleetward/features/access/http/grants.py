"""Operator routes of roles and of who holds them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fleetward.base.clock import render_time
from fleetward.base.errors import NotFoundError
from fleetward.base.web import Db, Principal, requires
from fleetward.features.access.model.identity import Grant
from fleetward.features.access.model.roles import ABOUT, ALL_GROUPS, Role
from fleetward.features.access.service import grants
from fleetward.features.access.service.authorize import Decider

router = APIRouter(tags=["operators"])


class GrantBody(BaseModel):
    """A role in one group of devices, or in all (`*`)."""

    model_config = ConfigDict(extra="forbid")

    role: Role
    group: str = Field(default=ALL_GROUPS, max_length=64)


@dataclass(frozen=True)
class RoleView:
    """A role, and what it may do where it is held."""

    role: Role
    description: str
    permissions: list[str]


@dataclass(frozen=True)
class GrantView:
    id: str
    operator: str
    role: Role
    group: str
    given_by: str
    given_at: str
    last_used_at: str | None


@router.get("/roles")
def list_roles(
    request: Request, db: Db, _principal: Annotated[Principal, requires("role.read")]
) -> list[RoleView]:
    """Return every role with its permissions, as the policies decide."""
    decider: Decider = request.app.state.decider
    now = db.clock.now()
    return [RoleView(role, ABOUT[role], decider.permissions_of_role(role, now)) for role in Role]


@router.post("/operators/{name}/grants", status_code=201)
def give_grant(
    db: Db, name: str, body: GrantBody, principal: Annotated[Principal, requires("grant.give")]
) -> GrantView:
    """Give another operator a role."""
    with db.write(principal.actor) as tx:
        return view_grant(grants.give(tx, name, body.role, body.group))


@router.delete("/operators/{name}/grants/{grant_id}", status_code=204)
def remove_grant(
    db: Db, name: str, grant_id: str, principal: Annotated[Principal, requires("grant.remove")]
) -> None:
    """Take a role from an operator; the last administrator keeps theirs."""
    with db.write(principal.actor) as tx:
        if grant_id not in {one.id for one in grants.list_grants(tx, name)}:
            raise NotFoundError(f"grant {grant_id[:64]}: expected one of operator {name[:64]}, found none")
        grants.remove(tx, grant_id)


def view_grant(grant: Grant) -> GrantView:
    """Return the public form of a grant."""
    return GrantView(
        id=grant.id,
        operator=grant.operator,
        role=grant.role,
        group=grant.group,
        given_by=grant.given_by,
        given_at=render_time(grant.given_at),
        last_used_at=None if grant.last_used_at is None else render_time(grant.last_used_at),
    )
