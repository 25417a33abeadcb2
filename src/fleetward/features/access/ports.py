"""What access asks of the rooms above."""

from typing import Protocol

from fleetward.base.db import Tx
from fleetward.base.errors import NotFoundError


class DeviceGroups(Protocol):
    def find_group(self, tx: Tx, device_id: str) -> str | None:
        """Return the group of a device, None when there is no such device."""
        ...

    def not_found(self, device_id: str) -> NotFoundError:
        """Return the error of a device that does not exist, word for word."""
        ...
