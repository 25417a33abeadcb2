"""What others need to know of devices."""

from fleetward.base.feature import Feature, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.devices import http

feature = Feature(
    name="devices",
    routes=(Routes(http.router, Port.API),),
    permissions=(
        Permission("device.quarantine", Reach.DEVICES, "cut a device off until it is released"),
        Permission("device.read", Reach.DEVICES, "see devices and their state"),
        Permission("device.release", Reach.DEVICES, "let a quarantined device work again"),
        Permission("device.retire", Reach.DEVICES, "end a device's life"),
        Permission("device.revoke", Reach.DEVICES, "cut a device off for good"),
        Permission("model.add", Reach.FLEET, "add a model"),
        Permission("model.read", Reach.SHARED, "see models"),
    ),
)
