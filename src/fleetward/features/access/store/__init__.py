"""The SQL of access; every table is named `access_*`."""

from fleetward.features.access.store import (
    breakglass,
    challenges,
    credentials,
    device_codes,
    failures,
    grants,
    links,
    operators,
    reviews,
    sessions,
    tokens,
    usage,
)

__all__ = [
    "breakglass",
    "challenges",
    "credentials",
    "device_codes",
    "failures",
    "grants",
    "links",
    "operators",
    "reviews",
    "sessions",
    "tokens",
    "usage",
]
