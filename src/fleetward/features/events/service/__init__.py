"""What can be done with the feed."""

from fleetward.features.events.service.reading import Page, Placed, read_page, read_placed

__all__ = ["Page", "Placed", "read_page", "read_placed"]
