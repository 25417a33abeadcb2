"""The list of doors, in the order in which features may import each other: each only those before it."""

from fleetward.base.feature import Feature, Port, Routes
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

DOORS: tuple[Feature, ...] = (
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


def routes_at(port: Port) -> list[Routes]:
    """Return all routes of a port, those of the lower features first."""
    return [routes for door in DOORS for routes in door.routes if routes.port is port]
