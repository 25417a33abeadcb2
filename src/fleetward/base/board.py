"""What features show on the front page: cards of what waits for a decision."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from fleetward.base.events import Event, Severity

MAX_ITEMS = 10  # of a card; its count says how many there are


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
        kind: what it is about; part of the HTTP contract.
        command: how the command line shows the same.
    """

    kind: str
    severity: Severity
    title: str
    count: int
    items: tuple[Item, ...]
    command: str


_GRAVITY = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.NOTICE: 2, Severity.INFO: 3}


def arrange_cards(cards: Iterable[Card]) -> list[Card]:
    """Return the cards that say something, the gravest first, else as they came."""
    return sorted((card for card in cards if card.count), key=lambda card: _GRAVITY[card.severity])


def count_of(count: int, one: str, many: str) -> str:
    """Return `1 device needs …` or `7 devices need …`."""
    return f"{count:,} {one if count == 1 else many}"


def device_href(device_id: str) -> str:
    """Return the console's page about a device."""
    return f"/devices/{device_id}"


def event_item(event: Event, *, may_acknowledge: bool = False) -> Item:
    """Return an event as a thing of a card."""
    href = device_href(event.device) if event.device else ""
    return Item(event.message, event.device, href, event.at, event.id if may_acknowledge else None)
