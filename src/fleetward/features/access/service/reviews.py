"""Access reviews: a campaign over every grant; what people decide is applied when it closes."""

import base64
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from fleetward.base import journal
from fleetward.base.clock import render_time
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import new_id
from fleetward.features.access import store
from fleetward.features.access.model.identity import actor_of
from fleetward.features.access.model.policy import OwnRightsError
from fleetward.features.access.model.reviews import (
    MAX_DUE,
    Review,
    ReviewItem,
    ReviewState,
    Verdict,
    check_can_close,
    propose,
)
from fleetward.features.access.model.roles import ALL_GROUPS, Role
from fleetward.features.access.service import grants
from fleetward.features.access.store.operators import OperatorState
from fleetward.features.audit import service as audit

# Who holds one of these in all groups may decide in a review; see policies/.
_DECIDERS = frozenset({Role.SECURITY_OFFICER, Role.ADMINISTRATOR})


@dataclass(frozen=True)
class Summary:
    """A review and how far it is."""

    review: Review
    total: int
    decided: int


def start(tx: Tx, title: str, due_in: timedelta) -> Review:
    """Begin a review of every grant there is now.

    Raises:
        InvalidInputError: due in more than a year.
    """
    if due_in > MAX_DUE:
        raise InvalidInputError(f"due_in: expected at most {MAX_DUE.days}d, found {due_in.days}d")
    review = Review(new_id("rev"), title, tx.actor, tx.now, tx.now + due_in)
    active = {one.name for one in store.operators.list_all(tx) if one.state is OperatorState.ACTIVE}
    items = []
    for grant in store.grants.list_grants(tx):
        proposal, why = propose(grant, is_active=grant.operator in active, now=tx.now)
        items.append(
            ReviewItem(
                review=review.id,
                grant_id=grant.id,
                operator=grant.operator,
                role=grant.role.value,
                group=grant.group,
                given_by=grant.given_by,
                given_at=grant.given_at,
                last_used_at=grant.last_used_at,
                proposal=proposal,
                why=why,
            )
        )
    store.reviews.insert(tx, review, items)
    facts: dict[str, Any] = {"title": title, "due_at": render_time(review.due_at), "grants": len(items)}
    journal.record(tx, "review.started", f"review:{review.id}", **facts)
    message = f"A review of {len(items)} grants began: {title}."
    emit(tx, "review.started", message, severity=Severity.NOTICE, review=review.id, **facts)
    return review


def get(tx: Tx, review_id: str) -> tuple[Review, list[ReviewItem]]:
    """Return a review and the grants it is about. Raises NotFoundError."""
    review = store.reviews.find(tx, review_id)
    if review is None:
        raise _not_found(review_id)
    return review, store.reviews.list_items(tx, review_id)


def list_reviews(tx: Tx) -> list[Summary]:
    """Return every review, newest first."""
    counts = store.reviews.count_items(tx)
    return [Summary(one, *counts.get(one.id, (0, 0))) for one in store.reviews.list_all(tx)]


def list_overdue(tx: Tx) -> list[Summary]:
    """Return the open reviews whose time is over: for the front page."""
    return [one for one in list_reviews(tx) if one.review.is_overdue(tx.now)]


def decide(tx: Tx, review_id: str, grant_id: str, decision: Verdict, note: str) -> ReviewItem:
    """Record what is to become of a grant; until the review closes it may be decided anew.

    Raises:
        NotFoundError: no such review, or none of its grants.
        ConflictError: the review is closed.
        OwnRightsError: the caller would keep their own right while another could decide.
    """
    review = store.reviews.lock(tx, review_id)
    if review is None:
        raise _not_found(review_id)
    if review.state is ReviewState.CLOSED:
        raise ConflictError(f"review {review_id}: expected it open, found it closed")
    items = {one.grant_id: one for one in store.reviews.list_items(tx, review_id)}
    item = items.get(grant_id)
    if item is None:
        raise NotFoundError(f"grant {grant_id[:64]}: expected one of review {review_id}, found none")
    is_own = actor_of(item.operator) == tx.actor
    if is_own and decision is Verdict.KEEP and _has_other_decider(tx, item.operator):
        raise OwnRightsError(
            f"grant {grant_id}: expected another person to decide over it, found its holder",
            hint="Ask another security officer or administrator.",
        )
    who = _name(tx)
    values: dict[str, Any] = {"decided_by": who, "decided_at": tx.now, "note": note}
    store.reviews.update_item(tx, item, decision=decision.value, **values)
    journal.record(
        tx, "review.decided", f"review:{review_id}", grant=grant_id, operator=item.operator, role=item.role,
        group=item.group, decision=decision.value, note=note,
    )  # fmt: skip
    return replace(item, decision=decision, **values)


def close(tx: Tx, review_id: str) -> Review:
    """Close a review and remove the grants that were decided to go.

    Raises:
        NotFoundError: no such review.
        ConflictError: closed already, or grants are not decided over.
        LastAdministratorError: no administrator would remain; decide anew.
    """
    review = store.reviews.lock(tx, review_id)
    if review is None:
        raise _not_found(review_id)
    items = store.reviews.list_items(tx, review_id)
    check_can_close(review, items)
    removed = 0
    for item in items:
        outcome = "gone" if store.grants.find(tx, item.grant_id) is None else "kept"
        if outcome == "kept" and item.decision is Verdict.REMOVE:
            grants.remove(tx, item.grant_id)
            outcome, removed = "removed", removed + 1
        store.reviews.update_item(tx, item, outcome=outcome)
    store.reviews.close(tx, review_id)
    journal.record(tx, "review.closed", f"review:{review_id}", grants=len(items), removed=removed)
    emit(
        tx, "review.closed", f"The review {review.title} closed: {removed} of {len(items)} grants go.",
        severity=Severity.NOTICE, review=review_id, grants=len(items), removed=removed,
    )  # fmt: skip
    return replace(review, closed_at=tx.now, closed_by=tx.actor)


def list_audit_entries(tx: Tx, review_id: str) -> list[dict[str, Any]]:
    """Return the audit entries of a review: what ties its evidence to the tamper-evident log."""
    return [
        {
            "sequence": entry.sequence,
            "time": render_time(entry.at),
            "actor": entry.actor,
            "action": entry.action,
            "details": entry.details,
            "leaf_hash": base64.b64encode(leaf).decode(),
        }
        for entry, leaf in audit.search(tx, subject=f"review:{review_id}", limit=10_000)
    ]


def _has_other_decider(tx: Tx, operator: str) -> bool:
    active = {one.name for one in store.operators.list_all(tx) if one.state is OperatorState.ACTIVE}
    return any(
        grant.role in _DECIDERS and grant.group == ALL_GROUPS and grant.operator in active - {operator}
        for grant in store.grants.list_grants(tx)
    )


def _name(tx: Tx) -> str:
    return tx.actor.removeprefix("operator:")


def _not_found(review_id: str) -> NotFoundError:
    return NotFoundError(f"review {review_id[:64]}: expected a review, found none")
