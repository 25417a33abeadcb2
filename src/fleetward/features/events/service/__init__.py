"""What can be done with the feed."""

from fleetward.features.events.service.forgetting import HEARD_KEPT, Kept, forget_heard, forget_old
from fleetward.features.events.service.hearing import hear, parse_event
from fleetward.features.events.service.reading import Page, Placed, read_page, read_placed

__all__ = [
    "HEARD_KEPT",
    "Kept",
    "Page",
    "Placed",
    "forget_heard",
    "forget_old",
    "hear",
    "parse_event",
    "read_page",
    "read_placed",
]
