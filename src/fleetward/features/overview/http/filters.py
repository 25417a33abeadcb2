"""Routes of an operator's saved filters."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from fleetward.base.body import Body
from fleetward.base.clock import render_time
from fleetward.base.web import Db, Principal, requires
from fleetward.features.overview.model.filters import MAX_NAME_CHARS, SavedFilter
from fleetward.features.overview.service import filters

router = APIRouter()


class FilterBody(Body):
    """A name, and the query parameters of GET /devices to keep under it."""

    name: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    filter: dict[str, str]


@dataclass(frozen=True)
class FilterView:
    id: str
    name: str
    filter: dict[str, str]
    created_at: str


@router.get("/filters")
def list_filters(db: Db, principal: Annotated[Principal, requires("filter.manage")]) -> list[FilterView]:
    """Return the caller's own filters by name."""
    with db.read() as tx:
        return [_view(one) for one in filters.list_filters(tx, principal.actor)]


@router.post("/filters", status_code=201)
def save_filter(
    db: Db, body: FilterBody, principal: Annotated[Principal, requires("filter.manage")]
) -> FilterView:
    with db.write(principal.actor) as tx:
        return _view(filters.save_filter(tx, body.name, body.filter))


@router.delete("/filters/{filter_id}", status_code=204)
def delete_filter(db: Db, filter_id: str, principal: Annotated[Principal, requires("filter.manage")]) -> None:
    with db.write(principal.actor) as tx:
        filters.delete_filter(tx, filter_id)


def _view(saved: SavedFilter) -> FilterView:
    return FilterView(saved.id, saved.name, saved.filter, render_time(saved.created_at))
