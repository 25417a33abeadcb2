"""The card of the front page about devices that fail attestation."""

from fleetward.base.board import MAX_ITEMS, Card, Item, count_of, device_href
from fleetward.base.db import Tx
from fleetward.base.events import Severity
from fleetward.base.feature import Groups, House
from fleetward.features.attestation import service
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import ENDED, DeviceState

FAILING = "appraisals_failing"
_ALIVE = frozenset(DeviceState) - ENDED


def find_cards(_house: House, tx: Tx, groups: Groups) -> list[Card]:
    """Return the devices of these groups whose last appraisal is bad."""
    among = devices.select_ids(groups=groups, states=_ALIVE)
    count, found = service.list_failing(tx, among, limit=MAX_ITEMS)
    items = (
        Item(
            f"{one.device_id}: {' '.join(reason.message for reason in one.reasons)}",
            one.device_id,
            device_href(one.device_id),
            one.at,
        )
        for one in found
    )
    title = count_of(count, "device fails attestation", "devices fail attestation")
    return [Card(FAILING, Severity.CRITICAL, title, count, tuple(items), "fleetward today")]
