"""What others need to know of updates."""

from fleetward.base.events import Severity
from fleetward.base.feature import (
    About,
    Cards,
    EventKind,
    Feature,
    House,
    Place,
    Port,
    Role,
    Routes,
    Start,
    Timer,
)
from fleetward.base.permissions import Permission, Reach
from fleetward.features.updates import board, http, service
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
    cards=(
        Cards("device.read", (board.STUCK, board.BEHIND), board.find_device_cards),
        Cards("release.read", (board.APPROVALS_PENDING,), board.find_approvals),
    ),
    events=(
        EventKind("release.proposed", Severity.NOTICE, About.RELEASE, "firmware waits for two approvals"),
        EventKind("release.approved", Severity.NOTICE, About.RELEASE, "one was given"),
        EventKind("release.rejected", Severity.NOTICE, About.RELEASE, "it was refused"),
        EventKind("release.published", Severity.INFO, About.RELEASE, "firmware is offered"),
        EventKind(
            "release.artifact_changed",
            Severity.CRITICAL,
            About.RELEASE,
            "a stored file is not what was handed in; the act that found it was refused",
        ),
        EventKind("release.withdrawn", Severity.NOTICE, About.RELEASE, "no longer"),
        EventKind(
            "update.confirmed",
            Severity.INFO,
            About.DEVICE,
            "what the device says of an update",
            may_device_say=True,
            or_severities=frozenset(Severity),
        ),
        EventKind(
            "update.failed",
            Severity.WARNING,
            About.DEVICE,
            "what the device says of an update",
            may_device_say=True,
            or_severities=frozenset(Severity),
        ),
        EventKind(
            "update.refused",
            Severity.WARNING,
            About.DEVICE,
            "what the device says of an update",
            may_device_say=True,
            or_severities=frozenset(Severity),
        ),
        EventKind(
            "update.rolled_back",
            Severity.WARNING,
            About.DEVICE,
            "what the device says of an update",
            may_device_say=True,
            or_severities=frozenset(Severity),
        ),
        EventKind(
            "boot.refused",
            Severity.WARNING,
            About.DEVICE,
            "what its boot stage would not start",
            may_device_say=True,
            or_severities=frozenset(Severity),
        ),
        EventKind(
            "boot.degraded",
            Severity.WARNING,
            About.DEVICE,
            "nothing could be started as it should",
            may_device_say=True,
            or_severities=frozenset(Severity),
        ),
    ),
    places=(
        Place("/releases", "release.read"),
        Place("/releases/$model/$version", "release.read"),
        Place("/devices/$id?part=firmware", "device.read"),
    ),
    permissions=(
        Permission("release.approve", Reach.FLEET, "approve or reject another's release"),
        Permission("release.publish", Reach.FLEET, "hand in a release"),
        Permission("release.read", Reach.SHARED, "see and download releases"),
        Permission("release.withdraw", Reach.FLEET, "offer a release no longer"),
    ),
)
