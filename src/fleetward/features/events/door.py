"""What others need to know of the feed of events."""

from fleetward.base.feature import Feature, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.events import http
from fleetward.features.events.tail import Tail

feature = Feature(
    name="events",
    context=Tail,
    routes=(Routes(http.router, Port.API),),
    permissions=(Permission("event.read", Reach.DEVICES, "see what happened"),),
)
