"""Filters that operators keep for themselves."""

from collections.abc import Mapping

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.base.ids import new_id
from fleetward.features.overview import store
from fleetward.features.overview.model.filters import (
    MAX_FILTERS,
    MAX_NAME_CHARS,
    SavedFilter,
    check_filter,
)


def save_filter(tx: Tx, name: str, given: Mapping[str, str]) -> SavedFilter:
    """Keep a filter under a name of the actor's own.

    Raises:
        InvalidInputError: a bad name or filter.
        ConflictError: the name is taken, or there are 100 already.
    """
    name = name.strip()
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise InvalidInputError(f"filter name: expected 1 to {MAX_NAME_CHARS} printable characters")
    present = store.list_filters(tx, tx.actor)
    if any(one.name == name for one in present):
        raise ConflictError(f"filter {name}: expected a new name, found it taken")
    if len(present) >= MAX_FILTERS:
        raise ConflictError(f"filters: expected at most {MAX_FILTERS}, found as many already")
    saved = SavedFilter(new_id("filter"), tx.actor, name, check_filter(given), tx.now)
    store.insert_filter(tx, saved)
    journal.record(tx, "filter.saved", f"filter:{saved.id}", name=name, filter=saved.filter)
    return saved


def list_filters(tx: Tx, owner: str) -> list[SavedFilter]:
    """Return an operator's filters by name."""
    return store.list_filters(tx, owner)


def delete_filter(tx: Tx, filter_id: str) -> None:
    """Forget one of the actor's filters. Raises NotFoundError for any other."""
    if not store.delete_filter(tx, tx.actor, filter_id):
        raise NotFoundError(f"filter {filter_id[:64]}: expected one of your own, found none")
    journal.record(tx, "filter.deleted", f"filter:{filter_id}")
