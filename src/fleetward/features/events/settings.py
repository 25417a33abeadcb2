"""Section `[events]` of the platform's settings."""

import msgspec

from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_duration


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The feed of events: age after which one is forgotten, and how many are kept at most."""

    keep: str = "365d"
    most: int = 5_000_000


def check(settings: Events) -> None:
    """Raise InvalidInputError over a duration that is none, or nothing kept."""
    parse_duration(settings.keep, what="events.keep")
    if settings.most < 1:
        raise InvalidInputError(f"events.most: expected at least 1, found {settings.most}")
