"""The card of the front page about devices that are held back from sessions."""

from fleetward.base.board import MAX_ITEMS, Card, Item, count_of, device_href
from fleetward.base.db import Tx
from fleetward.base.events import Severity
from fleetward.base.feature import Groups, House
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import ENDED, DeviceState
from fleetward.features.messaging import store

HELD = "devices_held"
_ALIVE = frozenset(DeviceState) - ENDED


def find_cards(_house: House, tx: Tx, groups: Groups) -> list[Card]:
    """Return the devices of these groups that something holds, the last held first."""
    among = devices.select_ids(groups=groups, states=_ALIVE)
    count, found = store.list_newest_holds(tx, among, limit=MAX_ITEMS)
    items = (
        Item(f"{device}: {hold.name}: {hold.reason}", device, device_href(device), hold.since)
        for device, hold in found
    )
    title = count_of(count, "device is held back from sessions", "devices are held back from sessions")
    return [Card(HELD, Severity.WARNING, title, count, tuple(items), "fleetward today")]
