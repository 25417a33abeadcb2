"""What others need to know of overview."""

from fleetward.base.feature import Feature, Forget, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.overview import http
from fleetward.features.overview.context import OverviewContext
from fleetward.features.overview.service import alerts

feature = Feature(
    name="overview",
    context=OverviewContext,
    routes=(Routes(http.router, Port.API),),
    forgets=(Forget("acknowledgements", None, alerts.forget_acknowledgements),),
    permissions=(
        Permission("device.revoke_bulk", Reach.DEVICES, "cut many devices off for good at once"),
        Permission("event.acknowledge", Reach.DEVICES, "take note of an alert for everybody"),
        Permission("filter.manage", Reach.SHARED, "keep filters of one's own"),
        Permission("settings.read", Reach.FLEET, "see how the platform is run, and its checklist"),
    ),
)
