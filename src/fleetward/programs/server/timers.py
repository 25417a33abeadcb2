"""Work that comes back: each act runs in a thread, alone, and its failure is logged and tried again."""

import asyncio
import random
from collections.abc import Callable

from fleetward.base.db import Database
from fleetward.base.errors import FleetwardError
from fleetward.base.feature import Forget
from fleetward.base.logging import get_logger

log = get_logger("timers")

_JITTER = 0.1


async def repeat(name: str, act: Callable[[], object], *, every_s: float, at_start: bool = True) -> None:
    """Run `act` every `every_s` seconds, a tenth earlier or later, until cancelled.

    One failure of ours must not end the rest of the platform: it is logged with its cause, and the next turn
    tries again. Cancellation waits for the act that is running.
    """
    if not at_start:
        await asyncio.sleep(every_s)
    while True:
        try:
            await asyncio.shield(asyncio.to_thread(act))
        except FleetwardError as error:
            log.warning("job_failed", job=name, code=error.code, reason=error.message)
        except Exception:
            log.exception("job_failed", job=name)
        await asyncio.sleep(every_s * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - spreads load


def forget(db: Database, one: Forget) -> None:
    """Delete what a door says no longer matters, in a transaction of its own: one failure stops no other."""
    with db.write("system:cleaning") as tx:
        one.act(tx)
