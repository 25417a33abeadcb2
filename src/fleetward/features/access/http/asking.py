"""What the routes of access share: who asks, from where, and the session's cookie."""

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Annotated, Any, ParamSpec, TypeVar, cast

from fastapi import Depends, Request, Response

from fleetward.base.errors import ForbiddenError
from fleetward.base.web import edge_of
from fleetward.features.access.context import AccessContext, Client
from fleetward.features.access.model.identity import Identity, check_fresh_mfa, check_in_browser
from fleetward.features.access.model.sessions import COOKIE, Session
from fleetward.features.access.model.sign_in_limits import address_key
from fleetward.features.access.service.authenticating import OperatorAuthenticator
from fleetward.features.access.service.sessions import Opened

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _context(request: Request) -> AccessContext:
    return cast("AccessContext", request.app.state.access)


def _client(request: Request) -> Client:
    address = request.client.host if request.client else "unknown"
    return Client(address, request.headers.get("user-agent", "")[:200])


Ctx = Annotated[AccessContext, Depends(_context)]
From = Annotated[Client, Depends(_client)]


def checking_passwords(
    route: Callable[_P, _T],
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Run a route that checks or hashes a password where passwords are checked; it has `ctx` and `client`.

    Raises:
        RateLimitedError: too many wait there, in all or from the client's address.
    """

    @wraps(route)
    async def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        ctx, client = cast("AccessContext", kwargs["ctx"]), cast("Client", kwargs["client"])
        return await ctx.password_checks.run(address_key(client.address), partial(route, *args, **kwargs))

    return run


class SignedIn:
    """A dependency that admits every operator to what is their own; `permission` is read by coverage tests.

    Args:
        fresh: two factors must have been given within five minutes.
        restricted: recovery sessions are admitted too.
        people: the local token, behind which no operator stands, is refused.
        browser: tokens are refused too, also those of command lines: a code that somebody was talked into
            approving must not become a way in that stays.
    """

    def __init__(
        self,
        permission: str = "me",
        *,
        fresh: bool = False,
        restricted: bool = False,
        people: bool = True,
        browser: bool = False,
    ) -> None:
        self.permission = permission
        self._fresh, self._restricted, self._people, self._browser = fresh, restricted, people, browser

    def __call__(self, request: Request) -> Identity:
        """Return who asks.

        Raises:
            UnauthenticatedError, CsrfRefusedError: as `Identifier.identify`.
            ForbiddenError: a restricted session, the local token, or a program's token.
            StepUpRequiredError: the two factors are too old.
        """
        authenticator = cast("OperatorAuthenticator", edge_of(request).authenticator)
        identity = authenticator.identify(request)
        if identity.restricted and not self._restricted:
            raise ForbiddenError(
                "session: expected a full sign-in, found one that may only renew its factors",
                hint="Register a passkey, then sign in with it.",
            )
        if self._people and (identity.operator is None or identity.scopes is not None):
            raise ForbiddenError("account: expected a person's sign-in, found a token of a program")
        if self._browser:
            check_in_browser(identity)
        if self._fresh:
            check_fresh_mfa(identity, edge_of(request).db.clock.now())
        return identity


Me = Annotated[Identity, Depends(SignedIn())]
FreshMe = Annotated[Identity, Depends(SignedIn(fresh=True, browser=True))]
AnyMe = Annotated[Identity, Depends(SignedIn(restricted=True, people=False))]
RestrictedMe = Annotated[Identity, Depends(SignedIn(restricted=True, browser=True))]


def operator_of(identity: Identity) -> str:
    """Return the operator behind a person's identity, as `SignedIn` let in. Raises ForbiddenError."""
    if identity.operator is None:
        raise ForbiddenError("account: expected a person's sign-in, found the local token")
    return identity.operator


def find_session(request: Request) -> Session | None:
    """Return the live session of the request's cookie."""
    return cast("OperatorAuthenticator", edge_of(request).authenticator).identifier.find_session(request)


def session_of(request: Request) -> Session:
    """Return the session the request came with. Raises ForbiddenError: it came with a token."""
    session = find_session(request)
    if session is None:
        raise ForbiddenError("account: expected a browser's session, found a token")
    return session


def set_cookie(response: Response, opened: Opened) -> None:
    """Hand the browser its session: for our own pages only, never to scripts, until the browser closes."""
    response.set_cookie(COOKIE, opened.secret, path="/", secure=True, httponly=True, samesite="strict")
    response.headers["Cache-Control"] = "no-store"


def drop_cookie(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
