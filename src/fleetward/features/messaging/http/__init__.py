"""HTTP routes of messaging."""

from fastapi import APIRouter

from fleetward.features.messaging.http import dead_letters, devices
from fleetward.features.messaging.http.context import MessagingContext
from fleetward.features.messaging.http.devices import CommandBody

__all__ = ["CommandBody", "MessagingContext", "router"]

router = APIRouter()
for _one in (devices, dead_letters):
    router.include_router(_one.router)
