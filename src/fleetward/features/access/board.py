"""What is shown of people: cards of reviews, emergencies, who could be locked out; points of the list."""

from fleetward.base.board import MAX_ITEMS, Card, Item, count_of
from fleetward.base.checklist import Check
from fleetward.base.clock import say_time
from fleetward.base.db import Tx
from fleetward.base.events import Severity
from fleetward.base.feature import Groups, House
from fleetward.features.access.model.breakglass import GlassState
from fleetward.features.access.model.people import MIN_WAYS_IN, check_people
from fleetward.features.access.service import breakglass, reviews
from fleetward.features.access.service.people import list_people

REVIEWS_OVERDUE = "reviews_overdue"
EMERGENCIES = "emergencies"
PEOPLE_WITHOUT_SPARE = "people_without_spare"


def find_overdue_reviews(_house: House, tx: Tx, _groups: Groups) -> list[Card]:
    """Return the access reviews whose due date has passed."""
    found = reviews.list_overdue(tx)
    items = []
    for one in found[:MAX_ITEMS]:
        label = f"{one.review.title}: {one.decided} of {one.total} decided, due {say_time(one.review.due_at)}"
        items.append(Item(label, href=f"/reviews/{one.review.id}", at=one.review.due_at))
    title = count_of(len(found), "access review is overdue", "access reviews are overdue")
    command = "fleetward review show"
    return [Card(REVIEWS_OVERDUE, Severity.WARNING, title, len(found), tuple(items), command)]


def find_emergencies(_house: House, tx: Tx, _groups: Groups) -> list[Card]:
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
    return [Card(EMERGENCIES, Severity.CRITICAL, title, len(found), tuple(items), command)]


def find_people_without_spare(_house: House, tx: Tx, _groups: Groups) -> list[Card]:
    """Return the operators who would be locked out by losing one thing."""
    found = [one for one in list_people(tx) if one.ways_in < MIN_WAYS_IN]
    items = []
    for one in found[:MAX_ITEMS]:
        label = f"{one.name} has one way to sign in, {one.recovery_codes_left} recovery codes left"
        items.append(Item(label, href=f"/operators/{one.name}"))
    title = count_of(len(found), "person has no spare passkey", "people have no spare passkey")
    command = "fleetward operator list"
    return [Card(PEOPLE_WITHOUT_SPARE, Severity.NOTICE, title, len(found), tuple(items), command)]


def find_checks(_house: House, tx: Tx) -> list[Check]:
    """Return what is to be said of the operators."""
    return check_people(list_people(tx))
