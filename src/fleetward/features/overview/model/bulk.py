"""Acting on many devices at once: for each, whether it will change, and if not why. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from fleetward.features.devices.model import Device, DeviceState, may_become

MAX_DEVICES = 10_000


class BulkAction(StrEnum):
    """What can be done to many devices; part of the HTTP contract."""

    QUARANTINE = "quarantine"
    RELEASE = "release"
    REVOKE = "revoke"
    RETIRE = "retire"
    COMMAND = "command"


PERMISSION_OF = {
    BulkAction.QUARANTINE: "device.quarantine",
    BulkAction.RELEASE: "device.release",
    BulkAction.REVOKE: "device.revoke",
    BulkAction.RETIRE: "device.retire",
    BulkAction.COMMAND: "command.run",
}
# To do it, where that asks for more than to see it: two factors given just now.
APPLY_PERMISSION_OF = {**PERMISSION_OF, BulkAction.REVOKE: "device.revoke_bulk"}
_BECOMES = {
    BulkAction.QUARANTINE: DeviceState.QUARANTINED,
    BulkAction.REVOKE: DeviceState.REVOKED,
    BulkAction.RETIRE: DeviceState.RETIRED,
}


@dataclass(frozen=True)
class Skipped:
    """A device that does not change, and why."""

    id: str
    why: str


@dataclass(frozen=True)
class Plan:
    """What an action comes to: which devices change, in order, and which do not."""

    action: BulkAction
    will_change: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    @property
    def matching(self) -> int:
        return len(self.will_change) + len(self.skipped)


def find_obstacle(
    action: BulkAction, device: Device, *, groups: frozenset[str] | None, has_full_queue: bool = False
) -> str | None:
    """Return why `action` would leave this device as it is, None when it would change it.

    Args:
        groups: in which the caller may do this, None for all.
    """
    if groups is not None and device.group not in groups:
        return f"you may not {action} devices of group {device.group}"
    if action is BulkAction.COMMAND:
        if device.has_ended:
            return f"it is {device.state}"
        return "too many commands wait for it already" if has_full_queue else None
    if action is BulkAction.RELEASE:
        is_held = device.state is DeviceState.QUARANTINED
        return None if is_held else f"it is {device.state}, not quarantined"
    to = _BECOMES[action]
    if device.state is to:
        return f"it is {to} already"
    return None if may_become(device.state, to) else f"it is {device.state} and cannot become {to}"
