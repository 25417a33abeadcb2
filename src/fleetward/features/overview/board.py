"""What is shown of the platform itself: the card of alerts, points of the checklist about the machine."""

from fleetward.base.board import MAX_ITEMS, Card, count_of, event_item
from fleetward.base.checklist import Check
from fleetward.base.db import Tx
from fleetward.base.events import Severity
from fleetward.base.feature import Groups, House
from fleetward.features.devices import service as devices
from fleetward.features.overview import store
from fleetward.features.overview.context import OverviewContext
from fleetward.features.overview.model.alerts import ALERTS_SHOWN_FOR
from fleetward.features.overview.model.checklist import check_premises

ALERTS = "alerts"


def find_alerts(_house: House, tx: Tx, groups: Groups) -> list[Card]:
    """Return the alerting events of the last day that nobody has acknowledged."""
    among = None if groups is None else devices.select_ids(groups=groups)
    count, found = store.list_alerts(tx, tx.now - ALERTS_SHOWN_FOR, among, limit=MAX_ITEMS)
    gravest = max(found, key=lambda event: event.severity is Severity.CRITICAL, default=None)
    return [
        Card(
            ALERTS,
            gravest.severity if gravest else Severity.WARNING,
            count_of(count, "alert nobody has acknowledged", "alerts nobody has acknowledged"),
            count,
            tuple(event_item(event, may_acknowledge=True) for event in found),
            "fleetward events --since 24h",
        )
    ]


def find_checks(house: House, tx: Tx) -> list[Check]:
    """Return what can be known of the machine and of how the platform is set."""
    premises = house.get(OverviewContext).surveyor.inspect()
    return check_premises(premises, devices.count_devices(tx).total, tx.now)
