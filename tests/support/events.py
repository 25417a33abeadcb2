"""Readers of the event feed."""

from fleetward.base.db import Database
from fleetward.base.events import Event, list_events


class Follower:
    """Reads on from the last event it has, as every client of ours does."""

    def __init__(self, db: Database, *, page: int = 1000) -> None:
        self._db = db
        self._page = page
        self.seen: list[Event] = []

    @property
    def ids(self) -> list[int]:
        return [event.id for event in self.seen]

    @property
    def messages(self) -> list[str]:
        return [event.message for event in self.seen]

    def poll(self) -> None:
        """Read until there is no more now."""
        while True:
            after = self.seen[-1].id if self.seen else 0
            with self._db.read() as tx:
                found = list_events(tx, after_id=after, limit=self._page)
            self.seen += found
            if len(found) < self._page:
                return
