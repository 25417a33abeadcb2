"""Devices that flood: held back from sessions for a while, and told."""

from datetime import timedelta

from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.features.messaging import store
from fleetward.features.messaging.service.holds import lift_hold, set_hold

FLOODING = "flooding"
FLOOD_PAUSE = timedelta(minutes=10)
_LIFTED_AT_ONCE = 100


def hold_flooding(tx: Tx, device_id: str, what: str) -> bool:
    """Hold a device that floods, for ten minutes, and tell; return whether it was not held so before.

    Args:
        what: what it does, e.g. "it sends 500 messages in 10 s that have to be refused".
    """
    if any(hold.name == FLOODING for hold in store.list_holds(tx, [device_id]).get(device_id, ())):
        return False
    minutes = int(FLOOD_PAUSE.total_seconds() // 60)
    try:
        set_hold(tx, device_id, FLOODING, f"{what}; let in again after {minutes} minutes")
    except NotFoundError:
        return False  # it was deleted meanwhile
    except ConflictError:
        pass  # so many hold it already that it has no session
    emit(
        tx, "device.flooding", f"Device {device_id} was cut off for {minutes} minutes: {what}.",
        device=device_id, severity=Severity.CRITICAL, what=what,
    )  # fmt: skip
    return True


def list_paused_out(tx: Tx) -> list[str]:
    """Return devices whose time is over, the longest held first, up to a hundred."""
    return store.list_held_since(tx, FLOODING, before=tx.now - FLOOD_PAUSE, limit=_LIFTED_AT_ONCE)


def lift_floods(tx: Tx) -> None:
    """Let them in again."""
    for device in list_paused_out(tx):
        lift_hold(tx, device, FLOODING)
