"""Sign-in of programs in the form OAuth clients speak: RFC 8628, with the errors of RFC 6749 section 5.2.

A client needs no registration and has no secret: the operator reads what it calls itself in `client_id`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from fleetward.base.clock import render_time
from fleetward.base.errors import ConflictError, FleetwardError, InvalidInputError, RateLimitedError
from fleetward.base.ids import parse_duration
from fleetward.base.web import Db
from fleetward.features.access.http.asking import Ctx, From
from fleetward.features.access.model.tokens import check_lifetime, parse_scopes, parse_token_name
from fleetward.features.access.service import device_codes
from fleetward.features.access.service.device_codes import TokenAsked

router = APIRouter(tags=["sign-in"], prefix="/oauth")
metadata_router = APIRouter()

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 32
_MAX_VALUE_CHARS = 4_096
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_CODES = frozenset({"authorization_pending", "slow_down", "expired_token", "access_denied"})


class OAuthError(InvalidInputError):
    """An error of RFC 6749 section 5.2, by its name there."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class DeviceAuthorization:
    """RFC 8628 section 3.2; times in seconds."""

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


@dataclass(frozen=True)
class AccessToken:
    """RFC 6749 section 5.1, and what our command line keeps beside it."""

    access_token: str = field(repr=False)
    token_type: str
    expires_in: int
    scope: str | None
    id: str
    name: str
    operator: str
    expires_at: str


@dataclass(frozen=True)
class OAuthProblem:
    """RFC 6749 section 5.2."""

    error: str
    error_description: str


Fields = Mapping[str, str]


async def _read_form(request: Request) -> Fields:
    """Return the fields of a form, each at most once, the empty ones left out (RFC 6749 section 3.2).

    An error stands under `error` instead: a dependency's would be answered in our own form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return {"error": f"content-type: expected {_FORM}, found another"}
    try:
        text = (await request.body()).decode("ascii")
        pairs = parse_qsl(text, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        return {"error": f"form: expected at most {_MAX_FIELDS} fields of UTF-8, found another"}
    fields = dict(pairs)
    if len(fields) != len(pairs):
        return {"error": "form: expected each field once, found one twice"}
    if any(len(value) > _MAX_VALUE_CHARS for value in fields.values()):
        return {"error": f"form: expected at most {_MAX_VALUE_CHARS} characters a field, found more"}
    fields.pop("error", None)
    return fields


Form = Annotated[Fields, Depends(_read_form)]


def _documented(
    answer: type, required: Mapping[str, str], optional: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what OpenAPI is told of a route that takes a form and answers by itself."""
    texts = {**required, **(optional or {})}
    fields = {name: {"type": "string", "description": text} for name, text in texts.items()}
    schema = {"type": "object", "required": list(required), "properties": fields}
    return {
        "response_model": None,
        "responses": {200: {"model": answer}, 400: {"model": OAuthProblem}, 429: {"model": OAuthProblem}},
        "openapi_extra": {"requestBody": {"required": True, "content": {_FORM: {"schema": schema}}}},
    }


@router.post(
    "/device_authorization",
    **_documented(
        DeviceAuthorization,
        {"client_id": "What the program calls itself; the operator reads it."},
        {
            "scope": "Permissions, separated by spaces; without it the token acts as its operator.",
            "token_name": "Asks for a token of a program by this name, instead of a command line's.",
            "token_lifetime": "How long that one works, such as 30d.",
        },
    ),
)
def begin(db: Db, ctx: Ctx, client: From, form: Form) -> JSONResponse:
    """Begin the sign-in of a program (RFC 8628 section 3.1)."""

    def act() -> DeviceAuthorization:
        name = _required(form, "client_id")
        scopes, token = _asked(form, ctx.decider.catalogue)
        with db.write("system:access") as tx:
            begun = device_codes.begin(tx, ctx, name, client.address, scopes=scopes, token=token)
        code = begun.code
        return DeviceAuthorization(
            device_code=begun.device_code,
            user_code=code.user_code,
            verification_uri=begun.verification_uri,
            verification_uri_complete=f"{begun.verification_uri}?code={code.user_code}",
            expires_in=int((code.expires_at - code.created_at).total_seconds()),
            interval=code.interval_s,
        )

    return _answer(form, act)


@router.post(
    "/token",
    **_documented(
        AccessToken,
        {"grant_type": DEVICE_GRANT, "device_code": "As it was given.", "client_id": "As it was said."},
    ),
)
def redeem(db: Db, form: Form) -> JSONResponse:
    """The token, once an operator approved (RFC 8628 section 3.4)."""

    def act() -> AccessToken:
        if _required(form, "grant_type") != DEVICE_GRANT:
            raise OAuthError("unsupported_grant_type", f"grant_type: expected {DEVICE_GRANT}, found another")
        secret, name = _required(form, "device_code"), _required(form, "client_id")
        with db.write("system:access") as tx:
            found = device_codes.poll(tx, secret, name)
            now = tx.now
        if isinstance(found, FleetwardError):
            raise found
        token = found.token
        return AccessToken(
            access_token=found.secret,
            token_type="Bearer",  # noqa: S106 - its type, RFC 6750
            expires_in=int((token.expires_at - now).total_seconds()),
            scope=None if token.scopes is None else " ".join(sorted(token.scopes)),
            id=token.id,
            name=token.name,
            operator=token.operator,
            expires_at=render_time(token.expires_at),
        )

    return _answer(form, act)


@metadata_router.get("/.well-known/oauth-authorization-server")
def describe(ctx: Ctx) -> dict[str, Any]:
    """Where the two are (RFC 8414)."""
    return {
        "issuer": ctx.console,
        "device_authorization_endpoint": f"{ctx.console}/api/v1/oauth/device_authorization",
        "token_endpoint": f"{ctx.console}/api/v1/oauth/token",
        "grant_types_supported": [DEVICE_GRANT],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": sorted(ctx.decider.catalogue),
    }


def _required(form: Fields, name: str) -> str:
    if name not in form:
        raise OAuthError("invalid_request", f"{name}: expected it in the form, found none")
    return form[name]


def _asked(form: Fields, known: Any) -> tuple[frozenset[str] | None, TokenAsked | None]:
    """Return the permissions a token is to be limited to, and the program's token that is asked for."""
    scopes = None
    if "scope" in form:
        try:
            scopes = parse_scopes(form["scope"].split(), known)
        except InvalidInputError as error:
            raise OAuthError("invalid_scope", error.message) from error
    if "token_name" not in form:
        return scopes, None
    if scopes is None:
        raise OAuthError("invalid_scope", "scope: expected what the program may do, found none")
    lifetime = check_lifetime(parse_duration(form.get("token_lifetime", "30d"), what="token_lifetime"))
    return scopes, TokenAsked(parse_token_name(form["token_name"]), lifetime)


def _answer(form: Fields, act: Callable[[], Any]) -> JSONResponse:
    try:
        if "error" in form:
            raise OAuthError("invalid_request", form["error"])
        return JSONResponse(act().__dict__, headers=_NO_STORE)
    except RateLimitedError as error:
        wait_s = str(error.details.get("retry_after_s", 1))
        problem = _problem("temporarily_unavailable", error)
        return JSONResponse(problem, 429, headers={**_NO_STORE, "Retry-After": wait_s})
    except (InvalidInputError, ConflictError) as error:
        return JSONResponse(_problem(_name_of(error), error), 400, headers=_NO_STORE)


def _name_of(error: FleetwardError) -> str:
    if isinstance(error, OAuthError):
        return error.name
    return error.code if error.code in _CODES else "invalid_request"


def _problem(code: str, error: FleetwardError) -> dict[str, str]:
    """Return an error as RFC 6749 writes it: printable ASCII without quotes and backslashes."""
    text = f"{error.message} {error.hint}".strip()
    said = "".join("'" if one in '"\\' else one if " " <= one <= "~" else "?" for one in text)
    return {"error": code, "error_description": said}
