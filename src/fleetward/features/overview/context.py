"""What overview's routes need beyond the database; in `app.state.overview`."""

from dataclasses import dataclass

from fleetward.features.overview.ports import Approvals, People, Reviews, Surveyor


@dataclass(frozen=True)
class OverviewContext:
    """Ports that are None leave their cards and checks out."""

    surveyor: Surveyor
    approvals: Approvals | None = None
    reviews: Reviews | None = None
    people: People | None = None
