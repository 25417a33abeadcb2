"""What the front page shows: only what waits for a person's decision."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleetward.base.events import Severity

MAX_ITEMS = 10
# A certificate is renewed at half of its life: past three quarters something hinders it.
OVERDUE_PART = 4
AUTHORITY_WARNING = timedelta(days=60)
TROUBLE_SHOWN_FOR = timedelta(days=7)
ROLLOUT_PATIENCE = timedelta(hours=24)


class CardKind(StrEnum):
    """What a card is about; part of the HTTP contract."""

    APPRAISALS_FAILING = "appraisals_failing"
    EMERGENCIES = "emergencies"
    ALERTS = "alerts"
    CERTIFICATES_EXPIRING = "certificates_expiring"
    CERTIFICATES_EXPIRED = "certificates_expired"
    AUTHORITIES_EXPIRING = "authorities_expiring"
    UPDATES_STUCK = "updates_stuck"
    ROLLOUTS_BEHIND = "rollouts_behind"
    APPROVALS_PENDING = "approvals_pending"
    REVIEWS_OVERDUE = "reviews_overdue"
    DEVICES_QUARANTINED = "devices_quarantined"
    PEOPLE_WITHOUT_SPARE = "people_without_spare"


@dataclass(frozen=True)
class Item:
    """One thing of a card.

    Attributes:
        label: one line for people.
        device: the device it is about.
        href: the console's page about it, "" when there is none.
        at: since when, or until when.
        event: the number to acknowledge it by.
    """

    label: str
    device: str | None = None
    href: str = ""
    at: datetime | None = None
    event: int | None = None


@dataclass(frozen=True)
class Card:
    """What waits for a decision: how many there are, and the first of them.

    Attributes:
        command: how the command line shows the same.
    """

    kind: CardKind
    severity: Severity
    title: str
    count: int
    items: tuple[Item, ...]
    command: str


_RANK = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.NOTICE: 2, Severity.INFO: 3}


def arrange(cards: Iterable[Card | None]) -> list[Card]:
    """Return the cards that say something, the gravest first."""
    found = [card for card in cards if card is not None and card.count]
    return sorted(found, key=lambda card: (_RANK[card.severity], list(CardKind).index(card.kind)))


def device_href(device_id: str) -> str:
    return f"/devices/{device_id}"


def count_of(count: int, one: str, many: str) -> str:
    """Return `1 device needs …` or `7 devices need …`."""
    return f"{count:,} {one if count == 1 else many}"
