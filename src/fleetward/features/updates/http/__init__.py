"""Routes of releases: `router` for operators, `device_router` for devices."""

from fleetward.features.updates.http.devices import device_router
from fleetward.features.updates.http.operators import BODY_LIMITS, router

__all__ = ["BODY_LIMITS", "device_router", "router"]
