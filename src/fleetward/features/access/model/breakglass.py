"""Break-glass: two people lend one of them every right that saves a fleet, for half an hour."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

LASTS = timedelta(minutes=30)
# A request nobody answers is no emergency any more.
LAPSES_AFTER = timedelta(minutes=30)


class GlassState(StrEnum):
    """REQUESTED and LAPSED lend nothing; ENDED blocks who asked until the review."""

    REQUESTED = "requested"
    LAPSED = "lapsed"
    ACTIVE = "active"
    ENDED = "ended"
    REVIEWED = "reviewed"


@dataclass(frozen=True)
class Glass:
    """One emergency, from the request to its review.

    Attributes:
        first_entry: sequence of the audit entry of its approval; what was done with it comes after.
        findings: what the reviewer says of it.
    """

    id: str
    requester: str
    reason: str
    requested_at: datetime
    approver: str | None = None
    approved_at: datetime | None = None
    first_entry: int | None = None
    ended_at: datetime | None = None
    ended_by: str | None = None
    reviewer: str | None = None
    reviewed_at: datetime | None = None
    findings: str = ""

    @property
    def expires_at(self) -> datetime:
        """When the lent rights end by themselves, or, before the approval, when the request lapses."""
        if self.approved_at is None:
            return self.requested_at + LAPSES_AFTER
        return self.approved_at + LASTS

    def state_at(self, now: datetime) -> GlassState:
        if self.reviewed_at is not None:
            return GlassState.REVIEWED
        if self.approved_at is None:
            is_over = self.ended_at is not None or now >= self.expires_at
            return GlassState.LAPSED if is_over else GlassState.REQUESTED
        return GlassState.ENDED if self.ended_at is not None or now >= self.expires_at else GlassState.ACTIVE
