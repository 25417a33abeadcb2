"""The seam of every operator route: who asks (`identify`), then whether they may (`decide`)."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from fleetward.base.db import Database, Tx
from fleetward.base.errors import ForbiddenError
from fleetward.base.web import Principal
from fleetward.features.access.model.identity import Identity
from fleetward.features.access.model.roles import ALL_GROUPS, Role
from fleetward.features.access.service.grants import list_grants
from fleetward.features.access.service.identifying import Identifier


@dataclass(frozen=True)
class Resource:
    """What a request is about: the device its path names, if any."""

    device_id: str | None


Decide = Callable[[Tx, Identity, str, Resource], Principal]


class OperatorAuthenticator:
    """Answers `requires(permission)` of every route on the operators' port."""

    def __init__(self, db: Database, identifier: Identifier, decide: Decide) -> None:
        self.identifier = identifier
        self._db, self._decide = db, decide

    def identify(self, request: Request) -> Identity:
        """Return who asks. Raises UnauthenticatedError, CsrfRefusedError."""
        identity = self.identifier.identify(request)
        request.state.identity = identity
        return identity

    def authorize(self, request: Request, permission: str) -> Principal:
        """Return who asks.

        Raises:
            UnauthenticatedError: no valid proof of who they are.
            ForbiddenError: known, and not allowed.
            NotFoundError: not allowed to know the thing exists.
        """
        identity = self.identify(request)
        with self._db.read(identity.actor) as tx:
            return self._decide(tx, identity, permission, Resource(request.path_params.get("device_id")))


def decide_by_administrator(tx: Tx, identity: Identity, permission: str, resource: Resource) -> Principal:
    """Let the local token and administrators of all groups do everything, tokens within their scopes."""
    del resource
    is_in_scope = identity.scopes is None or permission in identity.scopes
    if identity.operator is None:
        return Principal(identity.actor)
    held = {(grant.role, grant.group) for grant in list_grants(tx, identity.operator)}
    if identity.restricted or not is_in_scope or (Role.ADMINISTRATOR, ALL_GROUPS) not in held:
        raise ForbiddenError(f"{permission}: expected a role that holds it, found none")
    return Principal(identity.actor)
