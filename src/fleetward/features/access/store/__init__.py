"""The SQL of access; every table is named `access_*`."""

from fleetward.features.access.store import (
    challenges,
    credentials,
    device_codes,
    grants,
    links,
    operators,
    sessions,
    throttle,
    tokens,
)

__all__ = [
    "challenges",
    "credentials",
    "device_codes",
    "grants",
    "links",
    "operators",
    "sessions",
    "throttle",
    "tokens",
]
