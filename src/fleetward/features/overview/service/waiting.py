"""Cards of what waits for people: approvals, access reviews, emergencies to review, spare factors."""

from fleetward.base.db import Tx
from fleetward.base.events import Severity
from fleetward.features.access.model.breakglass import GlassState
from fleetward.features.access.service import breakglass, reviews
from fleetward.features.overview.model.checklist import MIN_WAYS_IN
from fleetward.features.overview.model.situation import say_time
from fleetward.features.overview.service.cards import MAX_ITEMS, Card, CardKind, Item, count_of
from fleetward.features.overview.service.people import list_people
from fleetward.features.updates import service as updates
from fleetward.features.updates.model import APPROVALS_NEEDED, ReleaseState


def find_approvals(tx: Tx) -> Card:
    """Return the releases that wait for approval, the longest waiting first."""
    waiting = [one for one in updates.list_releases(tx) if one.state is ReleaseState.PENDING]
    waiting.sort(key=lambda one: one.created_at)
    given = updates.list_approvals(tx) if waiting else {}
    items = []
    for one in waiting[:MAX_ITEMS]:
        counted = len(updates.list_counted(tx, one, given.get(one.id, ())))
        label = f"{one.model} {one.version} by {one.author}: {counted} of {APPROVALS_NEEDED} approvals"
        items.append(Item(label, href=f"/releases/{one.model}/{one.version}", at=one.created_at))
    title = count_of(len(waiting), "release waits for approval", "releases wait for approval")
    command = "fleetward release list"
    return Card(CardKind.APPROVALS_PENDING, Severity.NOTICE, title, len(waiting), tuple(items), command)


def find_overdue_reviews(tx: Tx) -> Card:
    """Return the access reviews whose due date has passed."""
    found = reviews.list_overdue(tx)
    items = []
    for one in found[:MAX_ITEMS]:
        label = f"{one.review.title}: {one.decided} of {one.total} decided, due {say_time(one.review.due_at)}"
        items.append(Item(label, href=f"/reviews/{one.review.id}", at=one.review.due_at))
    title = count_of(len(found), "access review is overdue", "access reviews are overdue")
    command = "fleetward review show"
    return Card(CardKind.REVIEWS_OVERDUE, Severity.WARNING, title, len(found), tuple(items), command)


def find_emergencies(tx: Tx) -> Card:
    """Return the requests to break the glass that wait for a second person, and what was not reviewed yet."""
    waiting = {GlassState.REQUESTED: "asks for it", GlassState.ACTIVE: "has it", GlassState.ENDED: "had it"}
    found = [(one, one.state_at(tx.now)) for one in breakglass.list_glasses(tx)]
    found = [(one, state) for one, state in found if state in waiting]
    items = [
        Item(f"{one.requester} {waiting[state]}: {one.reason}", href="/operators", at=one.requested_at)
        for one, state in found[:MAX_ITEMS]
    ]
    title = count_of(len(found), "emergency needs a second person", "emergencies need a second person")
    command = "fleetward break-glass list"
    return Card(CardKind.EMERGENCIES, Severity.CRITICAL, title, len(found), tuple(items), command)


def find_people_without_spare(tx: Tx) -> Card:
    """Return the operators who would be locked out by losing one thing."""
    found = [one for one in list_people(tx) if one.ways_in < MIN_WAYS_IN]
    items = []
    for one in found[:MAX_ITEMS]:
        label = f"{one.name} has one way to sign in, {one.recovery_codes_left} recovery codes left"
        items.append(Item(label, href=f"/operators/{one.name}"))
    title = count_of(len(found), "person has no spare passkey", "people have no spare passkey")
    command = "fleetward operator list"
    return Card(CardKind.PEOPLE_WITHOUT_SPARE, Severity.NOTICE, title, len(found), tuple(items), command)
