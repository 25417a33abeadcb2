"""What others need to know of the feed of events."""

from fleetward.base.feature import Feature, Port, Role, Routes, Timer
from fleetward.base.permissions import Permission, Reach
from fleetward.features.events import http
from fleetward.features.events.service import Kept, forget_old
from fleetward.features.events.tail import Tail

feature = Feature(
    name="events",
    context=Tail,
    routes=(Routes(http.router, Port.API),),
    timers=(Timer("forget-events", 600.0, Role.WORKER, lambda house: forget_old(house.db, house.get(Kept))),),
    permissions=(Permission("event.read", Reach.DEVICES, "see what happened"),),
)
