"""How operators prove themselves. Refused sign-ins are counted, told and all look the same from outside."""

from dataclasses import replace
from typing import Any

from fleetward.base import journal
from fleetward.base.db import Database
from fleetward.base.errors import UnauthenticatedError
from fleetward.base.events import Severity, emit
from fleetward.features.access import store
from fleetward.features.access.context import AccessContext, Client
from fleetward.features.access.model.identity import actor_of
from fleetward.features.access.model.secrets import hash_secret, parse_recovery_code
from fleetward.features.access.model.sessions import Session
from fleetward.features.access.service import factors, holding_back, passkeys, sessions
from fleetward.features.access.service.sessions import Opened
from fleetward.features.access.store.operators import OperatorState

_ACTOR = "system:access"


class SignInRefusedError(UnauthenticatedError):
    """The proofs do not hold; which of them, and whether the account exists, is not told."""

    code = "sign_in_refused"


def sign_in_with_passkey(
    db: Database, ctx: AccessContext, challenge_id: str, credential: dict[str, Any], client: Client
) -> Opened:
    """Open a session for the owner of the passkey that answered.

    Raises:
        InvalidInputError: the challenge is not ours or expired.
        RateLimitedError, SignInRefusedError.
    """
    with db.write(_ACTOR) as tx:
        holding_back.count_attempt(tx, None, client.address)
    opened = None
    with db.write(_ACTOR) as tx:
        passkey = passkeys.finish_assertion(tx, ctx, "signin", challenge_id, credential)
        operator = None if passkey is None else store.operators.find(tx, passkey.operator)
        if operator is not None and operator.state is OperatorState.ACTIVE:
            holding_back.give_back(tx, None, client.address)
            opened = sessions.open_session(tx, ctx, operator.name, "passkey", client, has_mfa=True)
        else:
            name = None if operator is None else operator.name
            holding_back.record_refusal(
                tx, "the passkey does not hold", name, client.address, method="passkey"
            )
    return _granted(opened)


def sign_in_with_password(
    db: Database, ctx: AccessContext, name: str, password: str, code: str, client: Client
) -> Opened:
    """Open a session by a password and a TOTP code together.

    The password is verified between two transactions, and for accounts that do not exist too.

    Raises:
        RateLimitedError, SignInRefusedError.
    """
    is_right = _verify_password(db, ctx, name, password, client)
    opened = None
    with db.write(_ACTOR) as tx:
        operator = store.operators.find(tx, name)
        is_active = operator is not None and operator.state is OperatorState.ACTIVE
        if is_active and is_right and factors.use_totp(tx, ctx, name, code):
            holding_back.give_back(tx, name, client.address)
            opened = sessions.open_session(tx, ctx, name, "password", client, has_mfa=True)
        else:
            holding_back.record_refusal(tx, "the proofs do not hold", name, client.address, method="password")
    return _granted(opened)


def sign_in_with_recovery_code(
    db: Database, ctx: AccessContext, name: str, code: str, client: Client
) -> Opened:
    """Open a restricted session by a recovery code, which is used up; everybody is told.

    Raises:
        RateLimitedError, SignInRefusedError.
    """
    with db.write(_ACTOR) as tx:
        holding_back.count_attempt(tx, name, client.address)
    opened = None
    with db.write(_ACTOR) as tx:
        operator = store.operators.find(tx, name)
        is_active = operator is not None and operator.state is OperatorState.ACTIVE
        code_hash = hash_secret(parse_recovery_code(code))
        if is_active and store.credentials.use_recovery_code(tx, name, code_hash):
            holding_back.give_back(tx, name, client.address)
            opened = sessions.open_session(tx, ctx, name, "recovery", client, has_mfa=False, restricted=True)
            told = f"{name} signed in by a recovery code from {client.address}."
            journal.record(
                replace(tx, actor=actor_of(name)),
                "access.recovery_code_used",
                f"operator:{name}",
                address=client.address,
            )
            emit(
                tx, "access.recovery_code_used", told, severity=Severity.CRITICAL, operator=name,
                address=client.address,
            )  # fmt: skip
        else:
            holding_back.record_refusal(tx, "the code does not hold", name, client.address, method="recovery")
    return _granted(opened)


def step_up_with_passkey(
    db: Database, ctx: AccessContext, session: Session, challenge_id: str, credential: dict[str, Any]
) -> Opened:
    """Renew a session's proof of two factors by a passkey of its operator. Raises as signing in does."""
    opened = None
    name = session.operator
    with db.write(actor_of(name)) as tx:
        found = passkeys.finish_assertion(tx, ctx, "step-up", challenge_id, credential, name)
        if found is not None:
            opened = sessions.step_up(tx, session)
        else:
            holding_back.record_refusal(
                tx, "the passkey does not hold", name, session.address, method="step-up"
            )
    return _granted(opened)


def step_up_with_password(
    db: Database, ctx: AccessContext, session: Session, password: str, code: str, client: Client
) -> Opened:
    """Renew a session's proof of two factors by password and code. Raises as signing in does."""
    name = session.operator
    is_right = _verify_password(db, ctx, name, password, client)
    opened = None
    with db.write(actor_of(name)) as tx:
        if is_right and factors.use_totp(tx, ctx, name, code):
            holding_back.give_back(tx, name, client.address)
            opened = sessions.step_up(tx, session)
        else:
            holding_back.record_refusal(tx, "the proofs do not hold", name, client.address, method="step-up")
    return _granted(opened)


def _verify_password(db: Database, ctx: AccessContext, name: str, password: str, client: Client) -> bool:
    with db.write(_ACTOR) as tx:
        holding_back.count_attempt(tx, name, client.address)
        kept = store.credentials.find_password(tx, name)
    is_right = ctx.passwords.verify(kept, password)
    if is_right and kept is not None and ctx.passwords.needs_rehash(kept):
        renewed = ctx.passwords.hash(password)
        with db.write(actor_of(name)) as tx:
            store.credentials.put_password(tx, name, renewed)
    return is_right


def _granted(opened: Opened | None) -> Opened:
    if opened is None:
        raise SignInRefusedError("sign-in: expected proofs that hold, found some that do not")
    return opened
