"""What can be done with the feed."""

from fleetward.features.events.service.forgetting import Kept, forget_old
from fleetward.features.events.service.reading import Page, Placed, read_page, read_placed

__all__ = [
    "Kept",
    "Page",
    "Placed",
    "forget_old",
    "read_page",
    "read_placed",
]
