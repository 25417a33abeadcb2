"""Section `[media]` of the platform's settings."""

import msgspec

from fleetward.base.ids import parse_duration


class Media(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of live views."""

    max_view: str = "10m"


def check(settings: Media) -> None:
    """Raise InvalidInputError over a duration that is none."""
    parse_duration(settings.max_view, what="media.max_view")
