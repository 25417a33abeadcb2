"""Opens, rotates and ends sessions. The secret of one exists only in its cookie; here is its hash."""

from dataclasses import dataclass, field, replace
from typing import Any

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id
from fleetward.features.access import store
from fleetward.features.access.context import AccessContext, Client
from fleetward.features.access.model.identity import actor_of
from fleetward.features.access.model.secrets import hash_secret, new_secret
from fleetward.features.access.model.sessions import RESTRICTED_LIFETIME, Method, Session


@dataclass(frozen=True)
class Opened:
    """A session and the secret its cookie carries."""

    session: Session
    secret: str = field(repr=False)


def open_session(
    tx: Tx,
    ctx: AccessContext,
    operator: str,
    method: Method,
    client: Client,
    *,
    has_mfa: bool,
    restricted: bool = False,
    proof: str = "",
) -> Opened:
    """Open a session with a secret of its own: what the browser carried before does not matter.

    Args:
        proof: what somebody else said of the factors they asked for, told in the event.
    """
    tx = replace(tx, actor=actor_of(operator))
    secret = new_secret()
    lifetime = RESTRICTED_LIFETIME if restricted else ctx.absolute
    session = Session(
        id=new_id("ses"),
        operator=operator,
        method=method,
        restricted=restricted,
        mfa_at=tx.now if has_mfa else None,
        address=client.address[:64],
        user_agent=client.user_agent[:200],
        created_at=tx.now,
        last_seen_at=tx.now,
        expires_at=tx.now + lifetime,
        ended_at=None,
    )
    store.sessions.insert(tx, session, hash_secret(secret))
    store.operators.mark_seen(tx, operator)
    facts: dict[str, Any] = {
        "session": session.id,
        "method": method,
        "address": session.address,
        "restricted": restricted,
        **({"provider_proof": proof} if proof else {}),
    }
    journal.record(tx, "access.session_opened", f"operator:{operator}", **facts)
    emit(tx, "access.session_opened", f"{operator} signed in by {method}.", operator=operator, **facts)
    return Opened(session, secret)


def step_up(tx: Tx, session: Session) -> Opened:
    """Note that both factors were given again, under a new secret. Raises NotFoundError: it has ended."""
    secret = new_secret()
    if not store.sessions.step_up(tx, session.id, hash_secret(secret), tx.now):
        raise _not_found(session.id)
    journal.record(tx, "access.session_stepped_up", f"operator:{session.operator}", session=session.id)
    return Opened(get(tx, session.operator, session.id), secret)


def get(tx: Tx, operator: str, session_id: str) -> Session:
    """Return a session of an operator. Raises NotFoundError."""
    found = store.sessions.find(tx, session_id)
    if found is None or found.operator != operator:
        raise _not_found(session_id)
    return found


def list_open(tx: Tx, ctx: AccessContext, operator: str) -> list[Session]:
    return [one for one in store.sessions.list_open(tx, operator) if one.is_live(tx.now, ctx.idle)]


def end(tx: Tx, operator: str, session_id: str, *, why: str) -> None:
    """End one session of an operator. Raises NotFoundError."""
    get(tx, operator, session_id)
    if store.sessions.end(tx, session_id):
        journal.record(tx, "access.session_ended", f"operator:{operator}", session=session_id, reason=why)
        emit(tx, "access.session_ended", f"A session of {operator} ended: {why}.", operator=operator,
             session=session_id, reason=why)  # fmt: skip


def end_all(tx: Tx, operator: str, *, why: str, but: str | None = None) -> int:
    """End every session of an operator, but one; return how many."""
    ended = store.sessions.end_all(tx, operator, but=but)
    if ended:
        journal.record(tx, "access.session_ended", f"operator:{operator}", count=ended, reason=why)
        emit(tx, "access.session_ended", f"{ended} session(s) of {operator} ended: {why}.",
             severity=Severity.NOTICE, operator=operator, count=ended, reason=why)  # fmt: skip
    return ended


def _not_found(session_id: str) -> NotFoundError:
    return NotFoundError(f"session {session_id[:64]}: expected an open session, found none")
