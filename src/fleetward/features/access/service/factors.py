"""What an operator proves themselves with: sets and checks passwords, TOTP and recovery codes."""

from dataclasses import dataclass, field
from datetime import timedelta

import segno

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, InvalidInputError
from fleetward.base.events import Severity, emit
from fleetward.features.access import store
from fleetward.features.access.context import AccessContext
from fleetward.features.access.model import totp
from fleetward.features.access.model.passwords import check_password
from fleetward.features.access.model.secrets import hash_secret, new_recovery_code

RECOVERY_CODES = 10
_TOTP_PURPOSE = "totp secret"
_OFFER_PURPOSE = "totp offer"
_OFFER_LIFETIME = timedelta(minutes=15)


@dataclass(frozen=True)
class TotpOffer:
    """A fresh TOTP secret, for a person to put into an authenticator app."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)
    qr_svg: str = field(repr=False)


def offer_totp(ctx: AccessContext, name: str) -> TotpOffer:
    secret = totp.new_secret()
    uri = totp.provisioning_uri(secret, name, ctx.rp_id)
    return TotpOffer(secret, uri, segno.make(uri, error="m").svg_inline(scale=4, dark="#000", light="#fff"))


def seal_totp(ctx: AccessContext, secret: str) -> bytes:
    return ctx.sealer.seal(secret.encode(), _TOTP_PURPOSE)


def open_totp(ctx: AccessContext, sealed: bytes) -> str:
    return ctx.sealer.open(sealed, _TOTP_PURPOSE).decode()


def set_password(tx: Tx, ctx: AccessContext, operator: str, password: str) -> None:
    """Keep a password. Raises WeakPasswordError. Hashing takes tens of milliseconds of this transaction."""
    found = store.operators.find(tx, operator)
    words = (operator, "" if found is None else found.display_name)
    check_password(password, words=words, common=ctx.common_passwords)
    store.credentials.put_password(tx, operator, ctx.passwords.hash(password))
    _record(tx, operator, "access.password_changed", "a password")


def set_totp(tx: Tx, ctx: AccessContext, operator: str, secret: str, code: str) -> None:
    """Keep a TOTP secret once a code proves that the app has it. Raises InvalidInputError."""
    step = totp.find_step(secret, code, tx.now, last_step=-1)
    if step is None:
        raise InvalidInputError(
            "totp_code: expected the app's present code, found another",
            hint="Is the clock of your phone right?",
        )
    store.credentials.put_totp(tx, operator, seal_totp(ctx, secret), step)
    _record(tx, operator, "access.totp_changed", "a code app")


def use_totp(tx: Tx, ctx: AccessContext, operator: str, code: str) -> bool:
    """Return whether a code is right and was not used before; it is used now."""
    found = store.credentials.find_totp(tx, operator)
    if found is None:
        return False
    sealed, last_step = found
    step = totp.find_step(open_totp(ctx, sealed), code, tx.now, last_step=last_step)
    return step is not None and store.credentials.use_totp_step(tx, operator, step, after=last_step)


def renew_recovery_codes(tx: Tx, operator: str) -> list[str]:
    """Return ten new recovery codes, to be shown this once; earlier ones stop working."""
    codes = [new_recovery_code() for _ in range(RECOVERY_CODES)]
    store.credentials.replace_recovery_codes(tx, operator, [hash_secret(code) for code in codes])
    journal.record(tx, "access.recovery_codes_renewed", f"operator:{operator}", count=len(codes))
    return codes


def remove_passkey(tx: Tx, operator: str, passkey_id: str) -> bool:
    """Remove a passkey; return whether it was there. Raises ConflictError: it is the last way in."""
    factors = store.credentials.count_factors(tx, operator)
    if factors.passkeys == 1 and not (factors.password and factors.totp):
        raise ConflictError(
            f"operator {operator}: expected another way to sign in, found this passkey to be the last",
            hint="Add a second passkey first.",
        )
    is_removed = store.credentials.delete_passkey(tx, operator, passkey_id)
    if is_removed:
        journal.record(tx, "access.passkey_removed", f"operator:{operator}", passkey=passkey_id)
        emit(tx, "access.passkey_removed", f"{operator} removed a passkey.", severity=Severity.NOTICE,
             operator=operator, passkey=passkey_id)  # fmt: skip
    return is_removed


def _record(tx: Tx, operator: str, action: str, what: str) -> None:
    journal.record(tx, action, f"operator:{operator}")
    emit(tx, action, f"{operator} set {what}.", severity=Severity.NOTICE, operator=operator)


def begin_totp(tx: Tx, ctx: AccessContext, operator: str) -> tuple[TotpOffer, str]:
    """Offer a signed-in operator a fresh TOTP secret; return it with the ticket that must come back."""
    offer = offer_totp(ctx, operator)
    values = {"operator": operator, "secret": offer.secret}
    return offer, ctx.sealer.seal_ticket(values, _OFFER_PURPOSE, tx.now + _OFFER_LIFETIME)


def finish_totp(tx: Tx, ctx: AccessContext, operator: str, ticket: str, code: str) -> None:
    """Keep the offered secret once a code proves that the app has it. Raises InvalidInputError."""
    values = ctx.sealer.open_ticket(ticket, _OFFER_PURPOSE, tx.now)
    if values["operator"] != operator:
        raise InvalidInputError("challenge_id: expected one of yours, found another's")
    set_totp(tx, ctx, operator, values["secret"], code)
