"""Holds back who fails to sign in, per account and per address.

An attempt is counted before it is judged and given back when it was right: guesses sent at once count too.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from fleetward.base.db import Database, Tx
from fleetward.base.errors import FleetwardError, NotFoundError, RateLimitedError
from fleetward.base.events import Severity, emit
from fleetward.base.limiting.backoff import Failures, Limit, count_failure
from fleetward.features.access import store
from fleetward.features.access.model.sign_in_limits import ACCOUNT, ADDRESS, account_key, address_key


def count_attempt(tx: Tx, name: str | None, address: str) -> None:
    """Count an attempt on an account from an address; `name` None where no account is named.

    Raises:
        RateLimitedError: held back; the same for accounts that do not exist.
    """
    found = [(key, limit, store.failures.lock(tx, key)) for key, limit in _keys(name, address)]
    blocked = [failures.blocked_until for _, _, failures in found if failures.is_blocked(tx.now)]
    if blocked:
        wait_s = math.ceil((max(blocked) - tx.now).total_seconds())
        raise RateLimitedError(
            f"sign-in: expected fewer failures before, found it held back for {wait_s} s",
            retry_after_s=wait_s,
        )
    for key, limit, failures in found:
        store.failures.update(tx, key, count_failure(failures, limit, tx.now))


def give_back(tx: Tx, name: str | None, address: str) -> None:
    """Uncount an attempt that was right: the account's failures end, the address loses this one."""
    if name is not None:
        store.failures.forget(tx, account_key(name))
    key = address_key(address)
    failures = store.failures.lock(tx, key)
    store.failures.update(tx, key, Failures(max(0, failures.count - 1), failures.last_failed_at, tx.now))


def record_refusal(tx: Tx, why: str, name: str | None, address: str, *, method: str) -> None:
    """Tell of a refused sign-in, loudly once it is being held back. An unknown name is not repeated."""
    known = name is not None and store.operators.find(tx, name) is not None
    counted = [store.failures.find(tx, key) for key, _ in _keys(name, address)]
    is_held_back = any(one is not None and one.is_blocked(tx.now) for one in counted)
    who = f"operator {name}" if known else "somebody"
    kind = "access.sign_in_held_back" if is_held_back else "access.sign_in_refused"
    severity = Severity.WARNING if is_held_back else Severity.NOTICE
    emit(
        tx, kind, f"A sign-in as {who} from {address} was refused: {why}.", severity=severity,
        operator=name if known else None, address=address, method=method, reason=why,
    )  # fmt: skip


@contextmanager
def guarding_links(db: Database, address: str) -> Iterator[None]:
    """Count what presents a link's token that does not hold; nothing else that goes wrong counts.

    Raises:
        RateLimitedError: the address is held back.
    """
    with db.write("system:access") as tx:
        count_attempt(tx, None, address)
    try:
        yield
    except NotFoundError:
        with db.write("system:access") as tx:
            record_refusal(tx, "the link does not hold", None, address, method="link")
        raise
    except FleetwardError:
        with db.write("system:access") as tx:
            give_back(tx, None, address)
        raise
    with db.write("system:access") as tx:
        give_back(tx, None, address)


def _keys(name: str | None, address: str) -> list[tuple[str, Limit]]:
    account = [] if name is None else [(account_key(name), ACCOUNT)]
    return [*account, (address_key(address), ADDRESS)]
