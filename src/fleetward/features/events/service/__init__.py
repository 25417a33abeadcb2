"""What can be done with the feed."""

from fleetward.features.events.service.reading import Page, read_page

__all__ = ["Page", "read_page"]
