"""What others need to know of the feed of events."""

from fleetward.base.feature import Feature, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.events import http

feature = Feature(
    name="events",
    routes=(Routes(http.router, Port.API),),
    permissions=(Permission("event.read", Reach.DEVICES, "see what happened"),),
)
