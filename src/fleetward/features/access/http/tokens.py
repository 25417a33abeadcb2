"""Routes of an operator's own tokens."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from fleetward.base.body import Body
from fleetward.base.errors import ForbiddenError
from fleetward.base.ids import parse_duration
from fleetward.base.web import Db, Principal, requires
from fleetward.features.access.http.asking import Ctx, Me, operator_of
from fleetward.features.access.http.views import TokenView, view_token
from fleetward.features.access.model.identity import check_in_browser
from fleetward.features.access.model.tokens import parse_scopes
from fleetward.features.access.service import tokens

router = APIRouter(tags=["tokens"])


class TokenBody(Body):
    """A name to know it by, the permissions it is limited to, and how long it lives, such as `30d`."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    scopes: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100)]
    expires_in: Annotated[str, Field(max_length=12)] = "30d"


@dataclass(frozen=True)
class NewTokenView(TokenView):
    """A token with its secret, shown this once."""

    token: str = field(repr=False)


@router.get("/tokens")
def list_tokens(db: Db, identity: Me) -> list[TokenView]:
    """The caller's tokens that still work, newest first."""
    with db.read() as tx:
        return [view_token(one) for one in tokens.list_live(tx, operator_of(identity))]


@router.post("/tokens", status_code=201)
def create_token(
    request: Request,
    db: Db,
    ctx: Ctx,
    body: TokenBody,
    principal: Annotated[Principal, requires("token.create")],
) -> NewTokenView:
    """Make a token in a browser; a command line asks for one as it asks to be signed in."""
    check_in_browser(request.state.identity)
    scopes = parse_scopes(body.scopes, ctx.decider.catalogue)
    lifetime = parse_duration(body.expires_in, what="expires_in")
    if principal.operator is None:
        raise ForbiddenError("token: expected an operator to own it, found the local token")
    with db.write(principal.actor) as tx:
        made = tokens.create(tx, principal.operator, body.name, scopes, lifetime)
    return NewTokenView(**view_token(made.token).__dict__, token=made.secret)


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(db: Db, token_id: str, identity: Me) -> None:
    with db.write(identity.actor) as tx:
        tokens.revoke(tx, operator_of(identity), token_id)
