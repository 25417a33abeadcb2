"""What all HTTP routes share: problem documents (RFC 9457), permissions, the peer certificate, limits."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Protocol, cast

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleetward.base import errors
from fleetward.base.db import Database
from fleetward.base.limiting.open_at_once import OpenLimit
from fleetward.base.logging import get_logger

log = get_logger("web")

PROBLEM_TYPE = "application/problem+json"
DEFAULT_MAX_BODY_BYTES = 1024 * 1024
_OUR_FAULT = 500
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
# Of one operator in one process. A browser holds one for all its tabs, and one for each device it shows.
MAX_STREAMS = 50

# Most specific first is not needed: lookup walks the class's own ancestry.
STATUS_OF: dict[type[errors.FleetwardError], int] = {
    errors.FleetwardError: 500,
    errors.InvalidInputError: 400,
    errors.TooLargeError: 413,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.RateLimitedError: 429,
    errors.UnavailableError: 503,
    errors.KeyUnavailableError: 503,
    errors.ConfigError: 500,
    errors.CorruptDataError: 500,
    errors.NewerDataError: 500,
    errors.PortInUseError: 500,
    errors.MissingProgramError: 500,
}


def status_of(error: errors.FleetwardError) -> int:
    """Return the HTTP status for an error: that of its nearest listed ancestor."""
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


@dataclass(frozen=True)
class Principal:
    """Who is asking, and where they may do what the route asks for.

    Attributes:
        actor: `operator:<name>` or `device:<id>`.
        operator: the operator's name; None for the local token.
        groups: the device groups in which they hold the route's permission; None means in all.
        mfa_at: when they last gave two factors; None where a token stands for them.
    """

    actor: str
    operator: str | None = None
    groups: frozenset[str] | None = None
    mfa_at: datetime | None = None

    def covers(self, group: str) -> bool:
        """Whether they may act in a device group."""
        return self.groups is None or group in self.groups

    def check_group(self, group: str) -> None:
        """Pass when they may act in a device group. Raises ForbiddenError."""
        if not self.covers(group):
            held = ", ".join(sorted(self.groups or ()))
            raise errors.ForbiddenError(
                f"group {group[:64]}: expected one in which you may do this ({held}), found another"
            )


class Authenticator(Protocol):
    def authorize(self, request: Request, permission: str) -> Principal:
        """Return who asks, if they may do `permission`.

        Raises:
            UnauthenticatedError: no valid proof of who they are.
            ForbiddenError: known, and not allowed.
            NotFoundError: the request names a device they may not see.
        """
        ...


@dataclass(frozen=True)
class Edge:
    """What every operator route needs; lives in `app.state.edge`."""

    db: Database
    authenticator: Authenticator
    streams: OpenLimit = field(default_factory=lambda: OpenLimit("live streams", MAX_STREAMS))


def edge_of(request: Request) -> Edge:
    return cast("Edge", request.app.state.edge)


class _Requires:
    """A dependency that names the one permission of a route; the route-coverage test reads `permission`."""

    def __init__(self, permission: str) -> None:
        self.permission = permission

    def __call__(self, request: Request) -> Principal:
        return edge_of(request).authenticator.authorize(request, self.permission)


def requires(permission: str) -> Any:
    """Return the dependency that admits who may do `permission`, to annotate a Principal with."""
    return Depends(_Requires(permission))


async def readmit(request: Request, permission: str) -> Principal:
    """Ask anew whether the reader of a stream may read on; `base.sse` does.

    Raises:
        UnauthenticatedError, ForbiddenError, NotFoundError: they may not; the stream ends.
    """
    return await run_in_threadpool(edge_of(request).authenticator.authorize, request, permission)


def _db(request: Request) -> Database:
    return edge_of(request).db


Db = Annotated[Database, Depends(_db)]


def peer_certificate(scope: Scope) -> bytes | None:
    """Return the DER of the client certificate the TLS handshake verified, or None.

    `programs.server.tls` puts it there (ASGI TLS extension); it is never read from a header.
    """
    tls = scope.get("extensions", {}).get("tls") or {}
    return cast("bytes | None", tls.get("client_cert_der"))


def problem(
    status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: object
) -> JSONResponse:
    """Return an RFC 9457 problem document with our fixed `code`."""
    body = {
        "type": f"urn:fleetward:problem:{code}",
        "title": code.replace("_", " "),
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    return JSONResponse(body, status_code=status, media_type=PROBLEM_TYPE, headers=headers)


def render_error(error: errors.FleetwardError) -> JSONResponse:
    """Return the problem document of one of our errors."""
    headers: dict[str, str] = {}
    if isinstance(error, errors.UnauthenticatedError):
        headers["WWW-Authenticate"] = str(error.details.get("challenge", 'Bearer realm="fleetward"'))
    if "retry_after_s" in error.details:
        headers["Retry-After"] = str(error.details["retry_after_s"])
    more = {name: value for name, value in error.details.items() if name != "challenge"}
    if error.hint:
        more["hint"] = error.hint
    return problem(status_of(error), error.code, error.message, headers=headers, **more)


class Problem(BaseModel):
    """A problem document (RFC 9457); some codes carry further members."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None


_PROBLEM_REF = "#/components/schemas/Problem"
# What any route may answer beside its own success; for `include_router(responses=…)`.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {PROBLEM_TYPE: {"schema": {"$ref": _PROBLEM_REF}}}}
    for status, text in {
        400: "The request is not valid.",
        401: "No valid proof of who asks.",
        403: "Known, and not allowed.",
        404: "Not there, or not for the caller to see.",
        409: "Not in a state that allows this.",
        413: "Over a size limit.",
        429: "Too many attempts; Retry-After says when to come back.",
        503: "Something this needs does not answer now.",
    }.items()
}


def answers_with(media_type: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route whose success is no JSON but this type."""
    return {200: {"content": {media_type: {}}}}


def describe_problems(app: FastAPI) -> None:
    """Put `Problem` into the OpenAPI document, and take out FastAPI's own 422: here that is a 400."""
    render = app.openapi

    def openapi() -> dict[str, Any]:
        document = render()
        for operations in document.get("paths", {}).values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def add_error_handlers(app: FastAPI) -> None:
    """Turn every error of `app` into a problem document; the unexpected is logged once, told to nobody."""

    async def on_ours(request: Request, error: Exception) -> JSONResponse:
        answer = render_error(cast("errors.FleetwardError", error))
        if answer.status_code >= _OUR_FAULT:  # whoever asked is not told the cause, so the log must be
            cause = next(iter(str(error.__cause__ or "").splitlines()), "")
            log.error("request_unavailable", path=request.url.path, reason=str(error), cause=cause)
        return answer

    async def on_validation(_request: Request, error: Exception) -> JSONResponse:
        first = cast("RequestValidationError", error).errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(400, "invalid_input", f"{where}: {first['msg']}")

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        found = cast("HTTPException", error)
        if isinstance(
            found.__cause__, errors.FleetwardError
        ):  # FastAPI wraps what ended its reading of a body
            return render_error(found.__cause__)
        codes = {400: "invalid_input", 404: "not_found", 405: "method_not_allowed"}
        headers = dict(found.headers) if found.headers else {}
        if found.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods_at(request))
        return problem(
            found.status_code, codes.get(found.status_code, "error"), str(found.detail), headers=headers
        )

    async def on_hangup(_request: Request, _error: Exception) -> JSONResponse:
        """Devices lose their power in the middle of a request; nobody is left to read the answer."""
        return problem(400, "invalid_input", "request body: expected all of it, found the connection closed")

    async def on_unexpected(request: Request, error: Exception) -> JSONResponse:
        reference = secrets.token_hex(6)
        log.error(
            "request_failed",
            path=request.url.path,
            method=request.method,
            reference=reference,
            exc_info=error,
        )
        return problem(500, "internal", f"Something failed on our side; the log has it under {reference}.")

    app.add_exception_handler(errors.FleetwardError, on_ours)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ClientDisconnect, on_hangup)
    app.add_exception_handler(Exception, on_unexpected)


def _methods_at(request: Request) -> list[str]:
    """Return what all routes of this path answer; Starlette names the first route's methods alone."""
    routes = request.app.router.routes
    return [
        method
        for method in _METHODS
        if any(one.matches({**request.scope, "method": method})[0] is Match.FULL for one in routes)
    ]


class BodyLimit:
    """ASGI middleware that ends a request whose body grows over its limit, before it is held in memory.

    Args:
        limits: of exact paths, for routes that ask who it is before they read; others get `default_bytes`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        default_bytes: int = DEFAULT_MAX_BODY_BYTES,
        limits: dict[str, int] | None = None,
    ) -> None:
        self._app = app
        self._default = default_bytes
        self._limits = limits or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], self._default)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            await _too_large(limit)(scope, receive, send)
            return
        seen = 0

        async def limited_receive() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise errors.TooLargeError(f"request body: expected at most {limit} bytes, found more")
            return message

        await self._app(scope, limited_receive, send)


def _too_large(limit: int) -> JSONResponse:
    return problem(413, "too_large", f"request body: expected at most {limit} bytes, found more")


class SecurityHeaders:
    """ASGI middleware that puts the same strict headers on every response."""

    def __init__(self, app: ASGIApp, *, policy: str) -> None:
        self._app = app
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"strict-transport-security", b"max-age=31536000"),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"x-frame-options", b"DENY"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in self._headers if name not in present),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


Handler = Callable[[Request], Awaitable[JSONResponse]]
