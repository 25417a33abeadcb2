"""Finds who is behind a request: a session's cookie, a token, or the local token of this machine."""

import ipaddress
import time

from fastapi import Request

from fleetward.base.db import Database, Tx
from fleetward.base.errors import ForbiddenError, UnauthenticatedError
from fleetward.base.events import Severity, emit
from fleetward.base.limiting.repeats import Repeats
from fleetward.features.access import store
from fleetward.features.access.context import AccessContext
from fleetward.features.access.model.identity import LOCAL_ACTOR, Identity, actor_of
from fleetward.features.access.model.secrets import (
    API_TOKEN_PREFIX,
    CLI_TOKEN_PREFIX,
    csrf_token,
    hash_secret,
    is_same,
)
from fleetward.features.access.model.sessions import COOKIE, CSRF_HEADER, SEEN_EVERY, Session
from fleetward.features.access.model.tokens import Token
from fleetward.features.access.store.operators import OperatorState

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})
_LOCAL_USE_EVERY_S = 300.0


class CsrfRefusedError(ForbiddenError):
    """A request that changes something did not prove to come from a page of ours."""

    code = "csrf_refused"


class Identifier:
    """Answers who asks. Thread-safe."""

    def __init__(self, db: Database, ctx: AccessContext, local_token: str) -> None:
        self._db, self._ctx = db, ctx
        self._local_hash = hash_secret(local_token)
        self._refusals = Repeats()
        self._local_uses = Repeats(interval_s=_LOCAL_USE_EVERY_S)

    def identify(self, request: Request) -> Identity:
        """Return who asks.

        Raises:
            UnauthenticatedError: no valid proof; a wrong token is told as an event.
            CsrfRefusedError: a cookie alone, where something would change.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if token:
            found = self._by_token(request, token.strip()) if scheme.lower() == "bearer" else None
            if found is not None:
                return found
            self._record_refusal(request)
            raise UnauthenticatedError(
                "authorization: expected a valid token, found another",
                hint="Send it as 'Authorization: Bearer …'. Sign in again: fleetward login.",
            )
        secret = request.cookies.get(COOKIE)
        found = None if secret is None else self._by_cookie(request, secret)
        if found is None:
            raise UnauthenticatedError(
                "authorization: expected a session or a token, found none that holds",
                hint="Sign in: in the console, or by fleetward login.",
            )
        return found

    def find_session(self, request: Request) -> Session | None:
        """Return the live session of the request's cookie."""
        secret = request.cookies.get(COOKIE)
        if secret is None:
            return None
        with self._db.read() as tx:
            return self._live_session(tx, secret)

    def _by_token(self, request: Request, token: str) -> Identity | None:
        if token.startswith((API_TOKEN_PREFIX, CLI_TOKEN_PREFIX)):
            return self._by_issued_token(token)
        if hash_secret(token) != self._local_hash:
            return None
        if not is_from_this_machine(request):
            self._record_refusal(request)
            raise UnauthenticatedError(
                "local token: expected it from the platform's own machine, found it from elsewhere",
                hint="From other machines sign in: fleetward --server URL login",
            )
        self._note_local_use(request)
        return Identity(LOCAL_ACTOR, None, "local", None, None, None, restricted=False)

    def _by_issued_token(self, secret: str) -> Identity | None:
        with self._db.read() as tx:
            token = store.tokens.find_by_hash(tx, hash_secret(secret))
            if token is None or not token.is_live(tx.now) or not _is_active(tx, token.operator):
                return None
            is_due = token.last_used_at is None or tx.now - token.last_used_at > SEEN_EVERY
        if is_due:
            with self._db.write(actor_of(token.operator)) as tx:
                store.tokens.mark_used(tx, token.id)
                store.operators.mark_seen(tx, token.operator)
        return _token_identity(token)

    def _by_cookie(self, request: Request, secret: str) -> Identity | None:
        with self._db.read() as tx:
            session = self._live_session(tx, secret)
            now = tx.now
        if session is None:
            return None
        if request.method not in _SAFE_METHODS:
            self._check_csrf(request, secret)
        if now - session.last_seen_at > SEEN_EVERY:
            with self._db.write(actor_of(session.operator)) as tx:
                store.sessions.mark_seen(tx, session.id)
                store.operators.mark_seen(tx, session.operator)
        return Identity(
            actor_of(session.operator), session.operator, "session", session.mfa_at, None, session.id,
            restricted=session.restricted,
        )  # fmt: skip

    def _live_session(self, tx: Tx, secret: str) -> Session | None:
        session = store.sessions.find_by_hash(tx, hash_secret(secret))
        if session is None or not session.is_live(tx.now, self._ctx.idle):
            return None
        return session if _is_active(tx, session.operator) else None

    def _check_csrf(self, request: Request, secret: str) -> None:
        """Pass when the request comes from a page of ours: it knows the session, and its origin is ours."""
        given = request.headers.get(CSRF_HEADER, "")
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site")
        if not is_same(given, csrf_token(secret)):
            problem = f"{CSRF_HEADER}: expected the session's token, found {'another' if given else 'none'}"
        elif origin is not None and origin not in self._ctx.origins:
            problem = f"origin: expected a page of ours, found {origin[:100]}"
        elif site is not None and site not in _OWN_SITES:
            problem = f"sec-fetch-site: expected same-origin, found {site[:20]}"
        else:
            return
        self._record_refusal(request, kind="access.csrf_refused")
        raise CsrfRefusedError(problem, hint="Reload the page.")

    def _record_refusal(self, request: Request, *, kind: str = "access.refused") -> None:
        address = request.client.host if request.client else "unknown"
        held_back = self._refusals.admit((kind, address), time.monotonic())
        if held_back is None:
            return
        path = request.url.path[:200]
        with self._db.write("system:access") as tx:
            emit(
                tx, kind, f"A request from {address} for {path} carried a proof that does not hold.",
                severity=Severity.WARNING, address=address, path=path, repeats=held_back,
            )  # fmt: skip

    def _note_local_use(self, request: Request) -> None:
        if self._local_uses.admit(("local",), time.monotonic()) is None:
            return
        with self._db.write(LOCAL_ACTOR) as tx:
            if store.operators.any_exists(tx):
                emit(
                    tx, "access.local_token_used", f"The local token was used for {request.url.path[:200]}.",
                    severity=Severity.NOTICE, path=request.url.path[:200],
                )  # fmt: skip


def is_from_this_machine(request: Request) -> bool:
    """Return whether the connection's far end is this machine: loopback, or the address it came in on."""
    if request.client is None:
        return False
    try:
        peer = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped  # how a listener on `::` sees IPv4
    server = request.scope.get("server")
    return peer.is_loopback or (server is not None and server[0] == request.client.host)


def _is_active(tx: Tx, operator: str) -> bool:
    found = store.operators.find(tx, operator)
    return found is not None and found.state is OperatorState.ACTIVE


def _token_identity(token: Token) -> Identity:
    return Identity(
        actor_of(token.operator), token.operator, "token", token.mfa_at, token.scopes, None,
        restricted=False, token_id=token.id,
    )  # fmt: skip
