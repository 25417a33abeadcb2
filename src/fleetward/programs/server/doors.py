"""The list of doors, in the order in which features may import each other: each only those before it.

The program has a door of its own, for what it tells beside the features.
"""

from collections.abc import Iterable

from fleetward.base.config import Section
from fleetward.base.feature import Cards, Checks, EventKind, Feature, Port, Routes
from fleetward.base.permissions import Permission
from fleetward.features.access.door import feature as access
from fleetward.features.attestation.door import feature as attestation
from fleetward.features.audit.door import feature as audit
from fleetward.features.devices.door import feature as devices
from fleetward.features.enrollment.door import feature as enrollment
from fleetward.features.events.door import feature as events
from fleetward.features.media.door import feature as media
from fleetward.features.messaging.door import feature as messaging
from fleetward.features.overview.door import feature as overview
from fleetward.features.pki.door import feature as pki
from fleetward.features.updates.door import feature as updates
from fleetward.programs.server.door import feature as platform

DOORS: tuple[Feature, ...] = (
    platform,
    audit,
    access,
    events,
    pki,
    devices,
    attestation,
    enrollment,
    messaging,
    updates,
    media,
    overview,
)


def settings_of(doors: Iterable[Feature]) -> tuple[Section, ...]:
    """Return the sections of fleetward.toml that the doors declare."""
    return tuple(one for door in doors for one in door.settings)


def permissions_of(doors: Iterable[Feature]) -> dict[str, Permission]:
    """Return what the doors' routes may ask for, by name."""
    return {one.name: one for door in doors for one in door.permissions}


def cards_of(doors: Iterable[Feature]) -> tuple[Cards, ...]:
    """Return what the doors show on the front page."""
    return tuple(one for door in doors for one in door.cards)


def checks_of(doors: Iterable[Feature]) -> tuple[Checks, ...]:
    """Return what the doors say on the deployment checklist."""
    return tuple(one for door in doors for one in door.checks)


SETTINGS = settings_of(DOORS)
CATALOGUE = permissions_of(DOORS)
EVENT_KINDS: dict[str, EventKind] = {one.name: one for door in DOORS for one in door.events}


def routes_at(port: Port, doors: Iterable[Feature]) -> list[Routes]:
    """Return all routes of a port, those of the lower features first."""
    return [routes for door in doors for routes in door.routes if routes.port is port]
