"""The seam of every operator route: who asks (`identify`), then whether they may (`decide`)."""

from collections.abc import Callable

from fastapi import Request

from fleetward.base.db import Database, Tx
from fleetward.base.web import Principal
from fleetward.features.access.model.identity import Identity
from fleetward.features.access.service.authorize import Decision, Resource, record_use
from fleetward.features.access.service.identifying import Identifier

Decide = Callable[[Tx, Identity, str, Resource], Decision]


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
        named = request.path_params
        with self._db.read(identity.actor) as tx:
            decision = self._decide(
                tx, identity, permission, Resource(named.get("device_id"), named.get("name"))
            )
        if decision.used:
            with self._db.write(identity.actor) as tx:
                record_use(tx, decision.used)
        return decision.principal
