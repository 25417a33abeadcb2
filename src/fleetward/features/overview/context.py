"""What overview's routes need beyond the database; in `app.state.overview`."""

from dataclasses import dataclass

from fleetward.features.overview.ports import Surveyor


@dataclass(frozen=True)
class OverviewContext:
    surveyor: Surveyor
