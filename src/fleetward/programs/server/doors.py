"""The list of doors, in the order in which features may import each other: each only those before it.

The program has a door of its own, for what it tells beside the features.
"""

from fleetward.base.feature import EventKind, Feature, Port, Routes
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

CATALOGUE: dict[str, Permission] = {one.name: one for door in DOORS for one in door.permissions}
EVENT_KINDS: dict[str, EventKind] = {one.name: one for door in DOORS for one in door.events}


def routes_at(port: Port) -> list[Routes]:
    """Return all routes of a port, those of the lower features first."""
    return [routes for door in DOORS for routes in door.routes if routes.port is port]
