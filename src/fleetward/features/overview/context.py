"""What overview's routes need beyond the database; in `app.state.overview`."""

from dataclasses import dataclass

from fleetward.base.feature import Cards, Checks
from fleetward.features.overview.ports import Surveyor


@dataclass(frozen=True)
class OverviewContext:
    """What the machine is like, and what the doors show.

    Attributes:
        cards, checks: the lower features' first.
    """

    surveyor: Surveyor
    cards: tuple[Cards, ...]
    checks: tuple[Checks, ...]
