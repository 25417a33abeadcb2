"""Operator routes of access reviews."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from fleetward.base.body import Body
from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.db import Tx
from fleetward.base.ids import parse_duration
from fleetward.base.web import Db, Principal, requires
from fleetward.features.access.model.reviews import (
    MAX_NOTE_CHARS,
    Review,
    ReviewItem,
    ReviewState,
    Verdict,
    count_decided,
)
from fleetward.features.access.service import reviews

router = APIRouter(tags=["reviews"], prefix="/reviews")


class ReviewBody(Body):
    """A review to begin; `due_in` such as `14d`."""

    title: str = Field(min_length=1, max_length=128)
    due_in: str = "14d"


class DecisionBody(Body):
    decision: Verdict = Field(strict=False)
    note: str = Field(default="", max_length=MAX_NOTE_CHARS)


@dataclass(frozen=True)
class ReviewView:
    id: str
    title: str
    state: ReviewState
    created_by: str
    created_at: str
    due_at: str
    closed_by: str | None
    closed_at: str | None
    total: int
    decided: int
    overdue: bool


@dataclass(frozen=True)
class ReviewItemView:
    """A grant as it stood when the review began; `outcome` once it is closed."""

    grant_id: str
    operator: str
    role: str
    group: str
    given_by: str
    given_at: str
    last_used_at: str | None
    proposal: Verdict
    why: str
    decision: Verdict | None
    decided_by: str | None
    decided_at: str | None
    note: str
    outcome: str | None


@dataclass(frozen=True)
class ReviewDetail(ReviewView):
    items: list[ReviewItemView]


@dataclass(frozen=True)
class Evidence:
    """A whole review for an auditor, and its entries in the tamper-evident log."""

    format: str
    exported_at: str
    exported_by: str
    review: ReviewDetail
    audit: list[dict[str, Any]]


@router.post("", status_code=201)
def start_review(
    db: Db, body: ReviewBody, principal: Annotated[Principal, requires("review.start")]
) -> ReviewDetail:
    """Begin a review of every grant there is now."""
    due_in = parse_duration(body.due_in, what="due_in")
    with db.write(principal.actor) as tx:
        return _detail(tx, reviews.start(tx, body.title, due_in).id)


@router.get("")
def list_reviews(db: Db, _principal: Annotated[Principal, requires("review.read")]) -> list[ReviewView]:
    with db.read() as tx:
        return [
            ReviewView(**_facts(one.review, one.total, one.decided, tx.now))
            for one in reviews.list_reviews(tx)
        ]


@router.get("/{review_id}")
def get_review(
    db: Db, review_id: str, _principal: Annotated[Principal, requires("review.read")]
) -> ReviewDetail:
    with db.read() as tx:
        return _detail(tx, review_id)


@router.post("/{review_id}/items/{grant_id}")
def decide(
    db: Db,
    review_id: str,
    grant_id: str,
    body: DecisionBody,
    principal: Annotated[Principal, requires("review.decide")],
) -> ReviewItemView:
    """Keep or remove one grant; it is applied when the review closes."""
    with db.write(principal.actor) as tx:
        return _view_item(reviews.decide(tx, review_id, grant_id, body.decision, body.note))


@router.post("/{review_id}/close")
def close(db: Db, review_id: str, principal: Annotated[Principal, requires("review.close")]) -> ReviewDetail:
    """Close the review and remove the grants that were decided to go."""
    with db.write(principal.actor) as tx:
        reviews.close(tx, review_id)
        return _detail(tx, review_id)


@router.get("/{review_id}/evidence")
def export_evidence(
    db: Db, review_id: str, principal: Annotated[Principal, requires("review.read")]
) -> Evidence:
    """Return everything an auditor asks of a review, as one document."""
    with db.read() as tx:
        return Evidence(
            format="fleetward-access-review-1",
            exported_at=render_time(tx.now),
            exported_by=principal.actor,
            review=_detail(tx, review_id),
            audit=reviews.list_audit_entries(tx, review_id),
        )


def _detail(tx: Tx, review_id: str) -> ReviewDetail:
    review, items = reviews.get(tx, review_id)
    return ReviewDetail(
        **_facts(review, len(items), count_decided(items), tx.now), items=[_view_item(one) for one in items]
    )


def _facts(review: Review, total: int, decided: int, now: datetime) -> dict[str, Any]:
    return {
        "id": review.id,
        "title": review.title,
        "state": review.state,
        "created_by": review.created_by,
        "created_at": render_time(review.created_at),
        "due_at": render_time(review.due_at),
        "closed_by": review.closed_by,
        "closed_at": render_time_or_none(review.closed_at),
        "total": total,
        "decided": decided,
        "overdue": review.is_overdue(now),
    }


def _view_item(item: ReviewItem) -> ReviewItemView:
    return ReviewItemView(
        grant_id=item.grant_id,
        operator=item.operator,
        role=item.role,
        group=item.group,
        given_by=item.given_by,
        given_at=render_time(item.given_at),
        last_used_at=render_time_or_none(item.last_used_at),
        proposal=item.proposal,
        why=item.why,
        decision=item.decision,
        decided_by=item.decided_by,
        decided_at=render_time_or_none(item.decided_at),
        note=item.note,
        outcome=item.outcome,
    )
