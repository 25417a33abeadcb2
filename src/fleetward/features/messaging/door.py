"""What others need to know of messaging."""

from fleetward.base.feature import Feature, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.messaging import coap, http
from fleetward.features.messaging.http import MessagingContext

feature = Feature(
    name="messaging",
    context=MessagingContext,
    routes=(Routes(http.router, Port.API),),
    coap=coap.RESOURCES,
    permissions=(
        Permission("command.read", Reach.DEVICES, "see commands and their results"),
        Permission("command.run", Reach.DEVICES, "have a device do something"),
        Permission("shadow.read", Reach.DEVICES, "see what is desired and reported"),
        Permission("shadow.write", Reach.DEVICES, "change what is desired"),
        Permission("telemetry.read", Reach.DEVICES, "see what devices send"),
    ),
)
