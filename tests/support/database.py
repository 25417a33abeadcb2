"""A database as a platform opens it: the audit log takes down what changes."""

from fleetward.base.clock import Clock
from fleetward.base.db import Database, Notary
from fleetward.features.audit.service import append


def open_database(url: str, clock: Clock, *, notary: Notary | None = None) -> Database:
    """Return the database at `url`, connected lazily."""
    return Database(url, clock, journal=append, notary=notary)
