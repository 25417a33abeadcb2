"""Access reviews: is every right still needed? What is proposed, and when a review may close."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleetward.base.errors import ConflictError
from fleetward.features.access.model.identity import Grant

UNUSED_AFTER = timedelta(days=30)
MAX_NOTE_CHARS = 500
MAX_DUE = timedelta(days=365)


class Verdict(StrEnum):
    KEEP = "keep"
    REMOVE = "remove"


class ReviewState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True)
class Review:
    """One campaign over all grants that stood when it began."""

    id: str
    title: str
    created_by: str
    created_at: datetime
    due_at: datetime
    closed_at: datetime | None = None
    closed_by: str | None = None

    @property
    def state(self) -> ReviewState:
        return ReviewState.OPEN if self.closed_at is None else ReviewState.CLOSED

    def is_overdue(self, now: datetime) -> bool:
        return self.closed_at is None and now > self.due_at


@dataclass(frozen=True)
class ReviewItem:
    """A grant as it stood when the review began, and what is decided over it.

    Attributes:
        last_used_at: as of then; None for never.
        outcome: after closing: `kept`, `removed`, or `gone` when someone took it away before.
    """

    review: str
    grant_id: str
    operator: str
    role: str
    group: str
    given_by: str
    given_at: datetime
    last_used_at: datetime | None
    proposal: Verdict
    why: str
    decision: Verdict | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    note: str = ""
    outcome: str | None = None


def propose(grant: Grant, *, is_active: bool, now: datetime) -> tuple[Verdict, str]:
    """Return what to do with a grant, and why. A proposal only: people decide."""
    if not is_active:
        return Verdict.REMOVE, "its holder cannot sign in"
    if grant.last_used_at is None:
        return Verdict.REMOVE, f"never used since it was given {_ago(now - grant.given_at)}"
    unused = now - grant.last_used_at
    if unused > UNUSED_AFTER:
        return Verdict.REMOVE, f"last used {_ago(unused)}"
    return Verdict.KEEP, f"last used {_ago(unused)}"


def check_can_close(review: Review, items: Sequence[ReviewItem]) -> None:
    """Pass when every grant is decided over.

    Raises:
        ConflictError: closed already, or some are not.
    """
    if review.state is ReviewState.CLOSED:
        raise ConflictError(f"review {review.id}: expected it open, found it closed")
    undecided = [item for item in items if item.decision is None]
    if undecided:
        names = ", ".join(f"{one.operator}'s {one.role} in {one.group}" for one in undecided[:3])
        raise ConflictError(
            f"review {review.id}: expected every grant decided over, found {len(undecided)} open: {names}",
            hint="Decide: fleetward review decide REVIEW GRANT keep|remove",
        )


def count_decided(items: Iterable[ReviewItem]) -> int:
    return sum(1 for item in items if item.decision is not None)


def _ago(span: timedelta) -> str:
    days = span.days
    return "today" if days < 1 else "yesterday" if days == 1 else f"{days} days ago"
