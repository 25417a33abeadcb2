"""The SQL of access reviews: campaigns, and the grants each is about as they stood when it began."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from fleetward.base.db import Timestamp, Tx, metadata
from fleetward.features.access.model.reviews import Review, ReviewItem, Verdict

reviews = sa.Table(
    "access_reviews",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("title", sa.String(128), nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("due_at", Timestamp, nullable=False),
    sa.Column("closed_at", Timestamp, nullable=True),
    sa.Column("closed_by", sa.String(128), nullable=True),
)
items = sa.Table(
    "access_review_items",
    metadata,
    sa.Column("review", sa.String(64), sa.ForeignKey("access_reviews.id"), primary_key=True),
    sa.Column("grant_id", sa.String(64), primary_key=True),
    sa.Column("operator", sa.String(64), nullable=False),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("group", sa.String(64), nullable=False),
    sa.Column("given_by", sa.String(128), nullable=False),
    sa.Column("given_at", Timestamp, nullable=False),
    sa.Column("last_used_at", Timestamp, nullable=True),
    sa.Column("proposal", sa.String(16), nullable=False),
    sa.Column("why", sa.String(200), nullable=False),
    sa.Column("decision", sa.String(16), nullable=True),
    sa.Column("decided_by", sa.String(64), nullable=True),
    sa.Column("decided_at", Timestamp, nullable=True),
    sa.Column("note", sa.String(500), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=True),
)


def insert(tx: Tx, review: Review, found: Iterable[ReviewItem]) -> None:
    tx.conn.execute(reviews.insert().values(**review.__dict__))
    rows = [{**one.__dict__, "proposal": one.proposal.value} for one in found]
    if rows:
        tx.conn.execute(items.insert(), rows)


def find(tx: Tx, review_id: str) -> Review | None:
    row = tx.conn.execute(reviews.select().where(reviews.c.id == review_id)).one_or_none()
    return None if row is None else _as_review(row)


def lock(tx: Tx, review_id: str) -> Review | None:
    """Return a review and keep others from deciding or closing until the transaction ends."""
    row = tx.conn.execute(reviews.select().where(reviews.c.id == review_id).with_for_update()).one_or_none()
    return None if row is None else _as_review(row)


def list_all(tx: Tx) -> list[Review]:
    """Return every review, newest first."""
    query = reviews.select().order_by(reviews.c.created_at.desc(), reviews.c.id)
    return [_as_review(row) for row in tx.conn.execute(query)]


def list_items(tx: Tx, review_id: str) -> list[ReviewItem]:
    query = items.select().where(items.c.review == review_id)
    query = query.order_by(items.c.operator, items.c.role, items.c.group)
    return [_as_item(row) for row in tx.conn.execute(query)]


def count_items(tx: Tx) -> dict[str, tuple[int, int]]:
    """Return how many grants each review is about and how many are decided over, by review."""
    query = sa.select(items.c.review, sa.func.count(), sa.func.count(items.c.decision)).group_by(
        items.c.review
    )
    return {review: (total, decided) for review, total, decided in tx.conn.execute(query)}


def update_item(tx: Tx, item: ReviewItem, **values: Any) -> None:
    tx.conn.execute(
        items.update()
        .where(items.c.review == item.review, items.c.grant_id == item.grant_id)
        .values(**values)
    )


def close(tx: Tx, review_id: str) -> bool:
    """Close a review; return whether it was open."""
    change = reviews.update().where(reviews.c.id == review_id, reviews.c.closed_at.is_(None))
    return tx.conn.execute(change.values(closed_at=tx.now, closed_by=tx.actor)).rowcount == 1


def _as_review(row: sa.Row[Any]) -> Review:
    return Review(**dict(row._mapping))  # noqa: SLF001 - SQLAlchemy's public name for it


def _as_item(row: sa.Row[Any]) -> ReviewItem:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    decision = None if row.decision is None else Verdict(row.decision)
    return ReviewItem(**{**values, "proposal": Verdict(row.proposal), "decision": decision})
