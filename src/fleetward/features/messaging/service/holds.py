"""Holds: named reasons why rooms above let a device have no session.

A room sets its hold and lifts it, in the transaction in which it found the reason; messaging knows no names.
Both are told as events of the device, which draw its admission record afresh: a session ends within a second.
"""

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, InvalidInputError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import parse_id
from fleetward.features.devices import service as devices
from fleetward.features.messaging import store
from fleetward.features.messaging.model import Hold

MAX_HOLDS = 16
MAX_REASON_CHARS = 200


def set_hold(tx: Tx, device_id: str, name: str, reason: str) -> Hold:
    """Hold a device under a name, and return the hold; holding it so again only says a new reason.

    Raises:
        NotFoundError: no such device.
        InvalidInputError: a name that is no id, or a reason that is empty or over 200 characters.
        ConflictError: 16 others hold it already.
    """
    parse_id(name, what="hold")
    if not reason or len(reason) > MAX_REASON_CHARS:
        raise InvalidInputError(
            f"hold {name}: expected a reason of 1 to {MAX_REASON_CHARS} characters, found {len(reason)}"
        )
    devices.get_device(tx, device_id)
    held = list_holds(tx, device_id)
    known = next((one for one in held if one.name == name), None)
    if known is not None and known.reason == reason:
        return known
    if known is None and len(held) >= MAX_HOLDS:
        raise ConflictError(f"device {device_id}: expected fewer than {MAX_HOLDS} holds, found {len(held)}")
    hold = Hold(name, reason, tx.now if known is None else known.since)
    store.put_hold(tx, device_id, hold, is_new=known is None)
    journal.record(tx, "hold.set", f"device:{device_id}", hold=name, reason=reason)
    emit(
        tx, "hold.set", f"Device {device_id} is held by {name}: {reason}.", device=device_id,
        severity=Severity.WARNING, hold=name, reason=reason,
    )  # fmt: skip
    return hold


def lift_hold(tx: Tx, device_id: str, name: str) -> bool:
    """Lift a hold and return whether there was one; lifting it again changes nothing."""
    if not store.delete_hold(tx, device_id, name):
        return False
    journal.record(tx, "hold.lifted", f"device:{device_id}", hold=name)
    emit(
        tx, "hold.lifted", f"Device {device_id} is no longer held by {name}.", device=device_id,
        severity=Severity.NOTICE, hold=name,
    )  # fmt: skip
    return True


def list_holds(tx: Tx, device_id: str) -> tuple[Hold, ...]:
    """Return what holds a device, by name."""
    return store.list_holds(tx, [device_id]).get(device_id, ())


def list_held(tx: Tx, name: str, *, after: str = "", limit: int = 500) -> list[str]:
    """Return up to `limit` devices that are held under a name, by id, those after `after`."""
    return store.list_held(tx, name, after=after, limit=limit)
