"""Work that comes back: each act runs in a thread, alone, and its failure is logged and tried again."""

import asyncio
import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

from fleetward.base.db import Database
from fleetward.base.errors import FleetwardError
from fleetward.base.feature import Feature, Forget, House, Role
from fleetward.base.logging import get_logger

log = get_logger("timers")

_JITTER = 0.1
_FORGET_EVERY_S = 3600.0


@dataclass(frozen=True)
class Act:
    """What comes back, and how often."""

    name: str
    act: Callable[[], object]
    every_s: float


def acts_of(doors: Iterable[Feature], house: House, roles: Collection[str]) -> list[Act]:
    """Return what the doors want done in a process of these roles; workers forget what no longer matters."""
    acts = []
    for door in doors:
        acts += [
            Act(one.name, partial(one.act, house), one.every_s) for one in door.timers if one.role in roles
        ]
        if Role.WORKER in roles:
            acts += [
                Act(f"forget-{door.name}-{one.name}", partial(_forget, house.db, one), _FORGET_EVERY_S)
                for one in door.forgets
            ]
    return acts


async def repeat(name: str, act: Callable[[], object], *, every_s: float) -> None:
    """Run `act` every `every_s` seconds, a tenth earlier or later, until cancelled.

    One failure of ours must not end the rest of the platform: it is logged with its cause, and the next turn
    tries again. Cancellation waits for the act that is running.
    """
    while True:
        await _run(name, act)
        await asyncio.sleep(every_s * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - spreads load


async def _run(name: str, act: Callable[[], object]) -> None:
    """Run `act` once, to its end: what it uses is closed as soon as we return."""
    running = asyncio.ensure_future(asyncio.to_thread(act))
    is_cancelled = False
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError:
            is_cancelled = True
    try:
        running.result()
    except FleetwardError as error:
        log.warning("job_failed", job=name, code=error.code, reason=error.message)
    except Exception:
        log.exception("job_failed", job=name)
    if is_cancelled:
        raise asyncio.CancelledError


def _forget(db: Database, one: Forget) -> None:
    """Delete what a door says no longer matters, in a transaction of its own: one failure stops no other."""
    with db.write("system:cleaning") as tx:
        one.act(tx)
