"""Routes of single sign-on: out to the provider, and back."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse

from fleetward.base.errors import FleetwardError
from fleetward.base.logging import get_logger
from fleetward.base.web import Db
from fleetward.features.access.http.asking import Ctx, From, set_cookie
from fleetward.features.access.ports import ProviderRefusedError
from fleetward.features.access.service import oidc

router = APIRouter(tags=["sign-in"])
log = get_logger("access")

# Lax, since the provider's redirect comes from another site; it opens nothing by itself.
_VISIT_COOKIE = "__Host-fleetward-oidc"
_FOUND = 302
_VISIT_S = int(oidc.VISIT_LIFETIME.total_seconds())


@router.get("/signin/oidc/start", status_code=_FOUND, response_class=RedirectResponse)
def start(
    db: Db, ctx: Ctx, next_path: Annotated[str | None, Query(alias="next", max_length=500)] = None
) -> RedirectResponse:
    """Send the browser to the provider; `next` is a path of ours to come back to."""
    visit = oidc.start(db, ctx, next_path)
    answer = RedirectResponse(visit.url, status_code=_FOUND)
    answer.set_cookie(
        _VISIT_COOKIE, visit.ticket, max_age=_VISIT_S, path="/", secure=True, httponly=True, samesite="lax"
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.get("/signin/oidc/callback", status_code=_FOUND, response_class=RedirectResponse)
def callback(
    request: Request,
    db: Db,
    ctx: Ctx,
    client: From,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4096)] = "",
    error: Annotated[str, Query(max_length=200)] = "",
) -> RedirectResponse:
    """Take the provider's answer: into the console, signed in, or to its sign-in page with the reason."""
    oidc.get_sso(ctx)
    try:
        if error or not code:
            raise ProviderRefusedError(f"provider: expected a code, found {error[:100] or 'none'}")
        opened, next_path = oidc.finish(db, ctx, request.cookies.get(_VISIT_COOKIE), state, code, client)
        answer = RedirectResponse(f"{ctx.console}{next_path}", status_code=_FOUND)
        set_cookie(answer, opened)
    except FleetwardError as refused:
        # The browser stands at this URL: it needs a page, not a problem document.
        log.warning("oidc_refused", code=refused.code, reason=refused.message)
        answer = RedirectResponse(f"{ctx.console}/signin?error={quote(refused.code)}", status_code=_FOUND)
    answer.delete_cookie(_VISIT_COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return answer
