"""Routes of the front page, its alerts and the checklist."""

from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from fleetward.base.board import Card, Item, arrange_cards
from fleetward.base.body import Body
from fleetward.base.checklist import CheckState, arrange_checks
from fleetward.base.clock import render_time, render_time_or_none
from fleetward.base.db import Tx
from fleetward.base.events import Severity
from fleetward.base.feature import House
from fleetward.base.web import Db, Principal, requires
from fleetward.features.access.context import AccessContext
from fleetward.features.access.model.roles import ALL_GROUPS
from fleetward.features.overview.context import OverviewContext
from fleetward.features.overview.model.alerts import MAX_NOTE_CHARS
from fleetward.features.overview.service import alerts

router = APIRouter()


@dataclass(frozen=True)
class ItemView:
    label: str
    device: str | None
    href: str | None
    at: str | None
    event: int | None


@dataclass(frozen=True)
class CardView:
    kind: str
    severity: Severity
    title: str
    count: int
    items: list[ItemView]
    command: str


@dataclass(frozen=True)
class TodayView:
    """What waits for a decision, the gravest first; no card means that nothing waits."""

    cards: list[CardView]


@dataclass(frozen=True)
class AcknowledgementView:
    event: int
    actor: str
    note: str
    at: str


@dataclass(frozen=True)
class CheckView:
    id: str
    title: str
    state: CheckState
    found: str
    fix: str
    command: str


class NoteBody(Body):
    note: str = Field(default="", max_length=MAX_NOTE_CHARS)


@router.get("/overview/today")
def get_today(
    request: Request, db: Db, _principal: Annotated[Principal, requires("device.read")]
) -> TodayView:
    """Return the cards that the caller may see: those of rooms closed to them are left out."""
    context: OverviewContext = request.app.state.overview
    house: House = request.app.state.house
    with db.read() as tx:
        rights = _rights(request, tx)
        found = [
            card
            for shown in context.cards
            if shown.permission in rights
            for card in shown.find(house, tx, rights[shown.permission])
        ]
    return TodayView([_view_card(card) for card in arrange_cards(found)])


@router.post("/events/{number}/acknowledge")
def acknowledge(
    db: Db, number: int, body: NoteBody, principal: Annotated[Principal, requires("event.acknowledge")]
) -> AcknowledgementView:
    """Take note of an event: it leaves the front page. The first acknowledgement of an event stays."""
    with db.write(principal.actor) as tx:
        made = alerts.acknowledge(tx, number, body.note, groups=principal.groups)
    return AcknowledgementView(made.event, made.actor, made.note, render_time(made.at))


@router.get("/settings/checklist")
def get_checklist(
    request: Request, db: Db, _principal: Annotated[Principal, requires("settings.read")]
) -> list[CheckView]:
    """Return what can be known of how this platform is run, and what to do about it."""
    context: OverviewContext = request.app.state.overview
    house: House = request.app.state.house
    with db.read() as tx:
        found = [check for shown in context.checks for check in shown.find(house, tx)]
    return [CheckView(**asdict(one)) for one in arrange_checks(found)]


def _rights(request: Request, tx: Tx) -> dict[str, frozenset[str] | None]:
    """Return what the caller may do, by permission the groups (None for all), without it counting as use."""
    access: AccessContext = request.app.state.access
    held = access.decider.list_rights(tx, request.state.identity)
    return {name: None if ALL_GROUPS in groups else frozenset(groups) for name, groups in held.items()}


def _view_card(card: Card) -> CardView:
    items = [_view_item(one) for one in card.items]
    return CardView(card.kind, card.severity, card.title, card.count, items, card.command)


def _view_item(item: Item) -> ItemView:
    at = render_time_or_none(item.at)
    return ItemView(item.label, item.device, item.href or None, at, item.event)
