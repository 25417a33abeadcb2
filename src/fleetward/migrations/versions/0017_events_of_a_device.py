"""A device's events in their order: a page of them reads no more rows than it shows.

`ix_events_device` is needless beside it; the release after this one drops it.
"""

from fleetward.migrations.beside import BuiltBeside

revision = "0017"
down_revision = "0016"

BESIDE = (BuiltBeside("ix_events_device_id", "events", ("device", "id")),)


def upgrade() -> None:
    """Change no table."""
