"""Routes about operators: who there is, invite, disable, recover, their sessions."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from fleetward.base.body import Body
from fleetward.base.clock import render_time
from fleetward.base.web import Db, Principal, requires
from fleetward.features.access.http.asking import Ctx
from fleetward.features.access.http.views import OperatorView, SessionView, view_operator, view_session
from fleetward.features.access.model.roles import parse_role
from fleetward.features.access.service import grants, operators, sessions, signing_up
from fleetward.features.access.store.operators import OperatorState

router = APIRouter(tags=["operators"])


class GrantBody(Body):
    """A role in one group of devices, or in all (`*`)."""

    role: Annotated[str, Field(max_length=32)]
    group: Annotated[str, Field(max_length=64)] = "*"


class ReasonBody(Body):
    reason: Annotated[str, Field(max_length=200)] = ""


class InviteBody(Body):
    name: Annotated[str, Field(min_length=1, max_length=64)]
    display_name: Annotated[str, Field(max_length=128)] = ""
    grants: Annotated[list[GrantBody], Field(max_length=100, default_factory=list)]


@dataclass(frozen=True)
class InvitationView:
    """A link to hand over; it is shown this once and works once."""

    name: str
    link: str = field(repr=False)
    expires_at: str


@router.get("/operators")
def list_operators(db: Db, _principal: Annotated[Principal, requires("operator.read")]) -> list[OperatorView]:
    with db.read() as tx:
        return [view_operator(tx, one.name) for one in operators.list_all(tx)]


@router.post("/operators/invitations", status_code=201)
def invite(
    db: Db, ctx: Ctx, body: InviteBody, principal: Annotated[Principal, requires("operator.invite")]
) -> InvitationView:
    """Create an operator, or renew the invitation of one who has not come yet."""
    wanted = {(parse_role(one.role), one.group) for one in body.grants}
    with db.write(principal.actor) as tx:
        operators.invite(tx, body.name, body.display_name)
        held = {(one.role, one.group) for one in grants.list_grants(tx, body.name)}
        for role, group in wanted - held:
            grants.give(tx, body.name, role, group)
        link = signing_up.create_invitation(tx, ctx, body.name)
    return InvitationView(body.name, link.url, render_time(link.expires_at))


@router.get("/operators/{name}")
def get_operator(
    db: Db, name: str, _principal: Annotated[Principal, requires("operator.read")]
) -> OperatorView:
    with db.read() as tx:
        return view_operator(tx, name)


@router.post("/operators/{name}/disable")
def disable(
    db: Db, name: str, body: ReasonBody, principal: Annotated[Principal, requires("operator.disable")]
) -> OperatorView:
    """Keep them from signing in; their sessions and tokens end now."""
    with db.write(principal.actor) as tx:
        operators.disable(tx, name, body.reason)
        return view_operator(tx, name)


@router.post("/operators/{name}/enable")
def enable(db: Db, name: str, principal: Annotated[Principal, requires("operator.invite")]) -> OperatorView:
    with db.write(principal.actor) as tx:
        operators.enable(tx, name)
        return view_operator(tx, name)


@router.post("/operators/{name}/recover")
def recover(
    db: Db, ctx: Ctx, name: str, principal: Annotated[Principal, requires("operator.recover")]
) -> InvitationView:
    """A link that replaces every factor of an operator who lost theirs; a critical event tells everybody."""
    with db.write(principal.actor) as tx:
        operator = operators.record_recovery(tx, name)
        is_recovery = operator.state is not OperatorState.INVITED
        link = signing_up.create_invitation(tx, ctx, name, is_recovery=is_recovery)
    return InvitationView(name, link.url, render_time(link.expires_at))


@router.get("/operators/{name}/sessions")
def list_sessions(
    db: Db, ctx: Ctx, name: str, _principal: Annotated[Principal, requires("session.read")]
) -> list[SessionView]:
    with db.read() as tx:
        operators.get(tx, name)
        found = sessions.list_open(tx, ctx, name)
    return [view_session(ctx, one, current=None) for one in found]


@router.delete("/operators/{name}/sessions", status_code=204)
def end_sessions(db: Db, name: str, principal: Annotated[Principal, requires("session.revoke")]) -> None:
    """End every session of an operator now."""
    with db.write(principal.actor) as tx:
        operators.get(tx, name)
        sessions.end_all(tx, name, why=f"ended by {principal.actor}")


@router.delete("/operators/{name}/sessions/{session_id}", status_code=204)
def end_session(
    db: Db, name: str, session_id: str, principal: Annotated[Principal, requires("session.revoke")]
) -> None:
    with db.write(principal.actor) as tx:
        sessions.end(tx, name, session_id, why=f"ended by {principal.actor}")
