"""The routes of the certificate authority alone, in an app of their own."""

from fastapi import FastAPI, Request

from fleetward.base.db import Database
from fleetward.base.errors import UnauthenticatedError
from fleetward.base.web import BodyLimit, Edge, Principal, add_error_handlers
from fleetward.features.pki.http import public_router, router
from fleetward.features.pki.service import PkiContext

OPERATOR = {"Authorization": "Bearer operator"}


class _OneOperator:
    def authorize(self, request: Request, permission: str) -> Principal:
        del permission
        if request.headers.get("authorization") != OPERATOR["Authorization"]:
            raise UnauthenticatedError("token: expected an operator's, found none")
        return Principal("operator:test")


def make_pki_app(db: Database, pki: PkiContext) -> FastAPI:
    app = FastAPI()
    add_error_handlers(app)
    app.add_middleware(BodyLimit, default_bytes=64 * 1024)
    app.state.edge = Edge(db, _OneOperator())
    app.state.pki = pki
    app.include_router(router, prefix="/api/v1")
    app.include_router(public_router)
    return app
