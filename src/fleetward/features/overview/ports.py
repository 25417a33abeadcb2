"""What overview must be told by others. A port that is not wired leaves its cards and checks out."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from fleetward.base.db import Tx
from fleetward.features.overview.model.checklist import Person, Premises


@dataclass(frozen=True)
class PendingApproval:
    """A release that waits for approvals. `given` of `needed` are there."""

    model: str
    version: str
    author: str
    since: datetime
    given: int
    needed: int


@dataclass(frozen=True)
class OverdueReview:
    """An access review past its due date, with how many of its grants are decided."""

    id: str
    title: str
    due_at: datetime
    decided: int
    total: int


class Approvals(Protocol):
    def list_pending(self, tx: Tx) -> list[PendingApproval]:
        """Return the releases that wait for approval, the longest waiting first."""
        ...


class Reviews(Protocol):
    def list_overdue(self, tx: Tx) -> list[OverdueReview]:
        """Return open reviews whose due date has passed at `tx.now`, the oldest first."""
        ...


class People(Protocol):
    def list_people(self, tx: Tx) -> list[Person]:
        """Return the operators who are not disabled, by name."""
        ...


class Surveyor(Protocol):
    def inspect(self) -> Premises:
        """Return what the premises are like now. Reads files: call it from a thread."""
        ...
