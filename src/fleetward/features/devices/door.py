"""What others need to know of devices."""

from fleetward.base.events import Severity
from fleetward.base.feature import About, Cards, Checks, EventKind, Feature, Place, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.devices import board, http

feature = Feature(
    name="devices",
    routes=(Routes(http.router, Port.API),),
    cards=(
        Cards(
            "device.read",
            (board.CERTIFICATES_EXPIRING, board.CERTIFICATES_EXPIRED, board.QUARANTINED),
            board.find_cards,
        ),
    ),
    checks=(Checks((board.MODELS_ATTESTED,), board.find_checks),),
    events=(
        EventKind("device.registered", Severity.INFO, About.DEVICE, "by `device add`"),
        EventKind(
            "shipment.imported", Severity.INFO, About.PLATFORM, "devices were registered from a factory"
        ),
        EventKind(
            "device.state_changed",
            Severity.INFO,
            About.DEVICE,
            "`from`, `to`, `reason`",
            or_severities=frozenset({Severity.NOTICE, Severity.WARNING}),
        ),
        EventKind(
            "device.firmware_changed",
            Severity.NOTICE,
            About.DEVICE,
            "what the chip proved, or where none can, what the device says",
        ),
    ),
    places=(
        Place("/devices", "device.read"),
        Place("/devices/$id", "device.read"),
    ),
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
