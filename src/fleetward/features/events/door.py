"""What others need to know of the feed of events."""

from fleetward.base.config import Section
from fleetward.base.feature import Feature, Forget, Place, Port, Role, Routes, Timer
from fleetward.base.permissions import Permission, Reach
from fleetward.features.events import http, settings
from fleetward.features.events.service import HEARD_KEPT, Kept, forget_heard, forget_old
from fleetward.features.events.tail import Tail

feature = Feature(
    name="events",
    context=Tail,
    routes=(Routes(http.router, Port.API),),
    settings=(Section("events", settings.Events, settings.check),),
    timers=(Timer("forget-events", 600.0, Role.WORKER, lambda house: forget_old(house.db, house.get(Kept))),),
    forgets=(Forget("heard", HEARD_KEPT, forget_heard),),
    places=(Place("/devices/$id?part=history", "event.read"),),
    permissions=(Permission("event.read", Reach.DEVICES, "see what happened"),),
)
