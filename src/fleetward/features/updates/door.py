"""What others need to know of updates."""

from fleetward.base.feature import Feature, House, Port, Role, Routes, Start, Timer
from fleetward.base.permissions import Permission, Reach
from fleetward.features.updates import http, service
from fleetward.features.updates.context import UpdatesContext
from fleetward.features.updates.repository.metadata import refresh_due, repair


def _register_boot_references(house: House) -> None:
    service.register_boot_references(house.db, house.get(UpdatesContext))


def _finish_interrupted(house: House) -> None:
    service.finish_interrupted(house.db, house.get(UpdatesContext))


def _repair_metadata(house: House) -> None:
    repair(house.db, house.get(UpdatesContext))


def _refresh_metadata(house: House) -> None:
    refresh_due(house.db, house.get(UpdatesContext))


feature = Feature(
    name="updates",
    context=UpdatesContext,
    routes=(
        Routes(http.router, Port.API, body_limits=http.BODY_LIMITS),
        Routes(http.device_router, Port.DEVICES),
    ),
    starts=(
        Start("boot-references", _register_boot_references),
        Start("publications", _finish_interrupted),
        Start("update-metadata", _repair_metadata),
    ),
    timers=(Timer("update-metadata", 60.0, Role.WORKER, _refresh_metadata),),
    permissions=(
        Permission("release.approve", Reach.FLEET, "approve or reject another's release"),
        Permission("release.publish", Reach.FLEET, "hand in a release"),
        Permission("release.read", Reach.SHARED, "see and download releases"),
        Permission("release.withdraw", Reach.FLEET, "offer a release no longer"),
    ),
)
