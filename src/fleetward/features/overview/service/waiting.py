"""Cards of what other rooms wait for: approvals, reviews, spare factors."""

from fleetward.base.db import Tx
from fleetward.base.events import Severity
from fleetward.features.overview.model.situation import say_time
from fleetward.features.overview.ports import Approvals, People, Reviews
from fleetward.features.overview.service.cards import MAX_ITEMS, Card, CardKind, Item, count_of

_MIN_FACTORS = 2


def find_approvals(tx: Tx, approvals: Approvals) -> Card:
    """Return the releases that wait for approval."""
    found = approvals.list_pending(tx)
    items = (
        Item(
            f"{one.model} {one.version} by {one.author}: {one.given} of {one.needed} approvals",
            href=f"/releases/{one.model}/{one.version}",
            at=one.since,
        )
        for one in found[:MAX_ITEMS]
    )
    title = count_of(len(found), "release waits for approval", "releases wait for approval")
    return Card(
        CardKind.APPROVALS_PENDING, Severity.NOTICE, title, len(found), tuple(items), "fleetward release list"
    )


def find_overdue_reviews(tx: Tx, reviews: Reviews) -> Card:
    """Return the access reviews whose due date has passed."""
    found = reviews.list_overdue(tx)
    items = (
        Item(
            f"{one.title}: {one.decided} of {one.total} decided, due {say_time(one.due_at)}",
            href=f"/reviews/{one.id}",
            at=one.due_at,
        )
        for one in found[:MAX_ITEMS]
    )
    title = count_of(len(found), "access review is overdue", "access reviews are overdue")
    return Card(
        CardKind.REVIEWS_OVERDUE, Severity.WARNING, title, len(found), tuple(items), "fleetward review show"
    )


def find_people_without_spare(tx: Tx, people: People) -> Card:
    """Return the operators who would be locked out by losing one thing."""
    found = [one for one in people.list_people(tx) if one.passkeys + one.has_totp < _MIN_FACTORS]
    items = (
        Item(f"{one.name} has one way to sign in, {one.recovery_codes_left} recovery codes left",
             href=f"/operators/{one.name}")
        for one in found[:MAX_ITEMS]
    )  # fmt: skip
    title = count_of(len(found), "person has no spare passkey", "people have no spare passkey")
    return Card(
        CardKind.PEOPLE_WITHOUT_SPARE, Severity.NOTICE, title, len(found), tuple(items),
        "fleetward operator list",
    )  # fmt: skip
