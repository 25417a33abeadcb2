"""Sign-in of a command line through a browser (RFC 8628): begun by a stranger, approved by an operator."""

from dataclasses import dataclass, field
from datetime import timedelta

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import FleetwardError, NotFoundError, RateLimitedError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id
from fleetward.features.access import store
from fleetward.features.access.context import AccessContext
from fleetward.features.access.model.device_codes import (
    INTERVAL_S,
    LIFETIME,
    SLOW_DOWN_S,
    CodeState,
    DeviceCode,
    ExpiredCodeError,
    SlowDownError,
    judge_poll,
    new_user_code,
    parse_user_code,
)
from fleetward.features.access.model.secrets import hash_secret, new_secret
from fleetward.features.access.model.sign_in_limits import network_of
from fleetward.features.access.service import tokens
from fleetward.features.access.service.tokens import NewToken
from fleetward.features.access.store.operators import OperatorState

# Strangers may begin sign-ins. One network may have as many wait; where all have too many, the oldest of the
# network that has most gives way: nobody can hold others out.
_MAX_PENDING_OF_NETWORK = 10
_MAX_PENDING = 5_000
_MAX_CLIENT_CHARS = 100


@dataclass(frozen=True)
class TokenAsked:
    """A token of a program that a command line asks its operator for."""

    name: str
    lifetime: timedelta


@dataclass(frozen=True)
class Begun:
    """What the command line shows and keeps."""

    device_code: str = field(repr=False)
    code: DeviceCode
    verification_uri: str


def begin(
    tx: Tx,
    ctx: AccessContext,
    client: str,
    address: str,
    *,
    scopes: frozenset[str] | None = None,
    token: TokenAsked | None = None,
) -> Begun:
    """Begin a sign-in for a program that calls itself `client`.

    Args:
        scopes: limits what the token may do; None: whatever its operator may.
        token: asks for a token of a program, instead of a command line's; it has `scopes`.

    Raises:
        RateLimitedError: too many of its network wait for an answer.
    """
    network = network_of(address)
    if store.device_codes.count_pending(tx, network) >= _MAX_PENDING_OF_NETWORK:
        raise RateLimitedError(
            f"sign-ins from {network}: expected fewer than {_MAX_PENDING_OF_NETWORK} begun and unanswered, "
            "found as many",
            hint="Answer or refuse them in the browser; each ends after ten minutes.",
            retry_after_s=60,
        )
    if store.device_codes.count_pending(tx) >= _MAX_PENDING:
        store.device_codes.forget_of_the_greediest(tx)
    code = DeviceCode(
        id=new_id("dev"),
        user_code=new_user_code(),
        client=_printable(client),
        address=address,
        network=network,
        state=CodeState.PENDING,
        operator=None,
        created_at=tx.now,
        expires_at=tx.now + LIFETIME,
        interval_s=INTERVAL_S,
        polled_at=None,
        scopes=scopes,
        token_name=None if token is None else token.name,
        token_lifetime_s=None if token is None else int(token.lifetime.total_seconds()),
    )
    device_code = new_secret()
    store.device_codes.insert(tx, code, hash_secret(device_code))
    return Begun(device_code, code, f"{ctx.console}/activate")


def poll(tx: Tx, device_code: str, client: str) -> NewToken | FleetwardError:
    """Return the token once approved, else the error to answer with; the poll itself is remembered.

    Args:
        client: what the program called itself when it began.
    """
    code = store.device_codes.find_by_hash(tx, hash_secret(device_code))
    if code is not None and code.client != _printable(client):
        return ExpiredCodeError("device_code: expected it from the client it was given to, found another")
    error = judge_poll(code, tx.now)
    if error is not None and code is not None:
        slower = SLOW_DOWN_S if isinstance(error, SlowDownError) else 0
        store.device_codes.mark_polled(tx, code.id, code.interval_s + slower)
    if error is not None or code is None or code.operator is None:
        return error or ExpiredCodeError("device_code: expected an operator's answer, found none")
    owner = store.operators.find(tx, code.operator)
    if owner is None or owner.state is not OperatorState.ACTIVE:
        return ExpiredCodeError("device_code: expected an active operator, found none")
    if not store.device_codes.update_state(tx, code.id, CodeState.APPROVED, CodeState.REDEEMED):
        return ExpiredCodeError("device_code: expected one in progress, found it used")
    return tokens.create_for_cli(tx, code.operator, code)


def get_pending(tx: Tx, user_code: str) -> DeviceCode:
    """Return the sign-in a person was asked to compare. Raises NotFoundError."""
    found = store.device_codes.find_pending(tx, parse_user_code(user_code))
    if found is None:
        raise NotFoundError(
            "code: expected a sign-in that waits for an answer, found none",
            hint="Codes live ten minutes. Start again: fleetward login",
        )
    return found


def answer(tx: Tx, operator: str, user_code: str, *, is_approved: bool) -> None:
    """Approve or deny a sign-in in an operator's name. Raises NotFoundError."""
    code = get_pending(tx, user_code)
    state = CodeState.APPROVED if is_approved else CodeState.DENIED
    if not store.device_codes.update_state(tx, code.id, CodeState.PENDING, state, operator=operator):
        raise NotFoundError("code: expected a sign-in that waits for an answer, found it answered")
    facts = {"client": code.client, "address": code.address}
    action = "access.command_line_approved" if is_approved else "access.command_line_denied"
    journal.record(tx, action, f"operator:{operator}", **facts)
    emit(tx, action, f"{operator} {state.value} the sign-in of {code.client}.",
         severity=Severity.NOTICE, operator=operator, **facts)  # fmt: skip


def _printable(client: str) -> str:
    """Return what a program calls itself, as it is shown."""
    text = "".join(letter for letter in client if letter.isprintable())[:_MAX_CLIENT_CHARS].strip()
    return text or "a program"
