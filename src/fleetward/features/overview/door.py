"""What others need to know of overview."""

from fleetward.base.feature import Cards, Checks, Feature, Forget, Place, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.overview import board, http
from fleetward.features.overview.context import OverviewContext
from fleetward.features.overview.model.checklist import CHECK_IDS
from fleetward.features.overview.service import alerts

feature = Feature(
    name="overview",
    context=OverviewContext,
    routes=(Routes(http.router, Port.API),),
    cards=(Cards("event.read", (board.ALERTS,), board.find_alerts),),
    checks=(Checks(CHECK_IDS, board.find_checks),),
    forgets=(Forget("acknowledgements", None, alerts.forget_acknowledgements),),
    places=(
        Place("/", None),
        Place("/first-device", None),
        Place("/settings", None),
        Place("/devices/$id?part=overview", "device.read"),
    ),
    permissions=(
        Permission("device.revoke_bulk", Reach.DEVICES, "cut many devices off for good at once"),
        Permission("event.acknowledge", Reach.DEVICES, "take note of an alert for everybody"),
        Permission("filter.manage", Reach.SHARED, "keep filters of one's own"),
        Permission("settings.read", Reach.FLEET, "see how the platform is run, and its checklist"),
    ),
)
