"""Saved filters: what somebody looks for again and again in the list of devices."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fleetward.base.errors import InvalidInputError
from fleetward.features.devices.model import DeviceState, Selection, parse_order

MAX_FILTERS = 100
MAX_NAME_CHARS = 64
MAX_VALUE_CHARS = 64
_FIELDS = frozenset({"model", "group", "state", "firmware", "search", "sort"})


@dataclass(frozen=True)
class SavedFilter:
    """A named filter of one operator; `filter` holds the query parameters of GET /devices."""

    id: str
    owner: str
    name: str
    filter: dict[str, str]
    created_at: datetime


def check_filter(given: Mapping[str, str]) -> dict[str, str]:
    """Return a filter's parameters, those that are empty left out; `firmware` may be "".

    Raises:
        InvalidInputError: an unknown parameter, state or order, or a value over 64 characters.
    """
    for name, value in given.items():
        if name not in _FIELDS:
            raise InvalidInputError(f"filter: expected {', '.join(sorted(_FIELDS))}, found {name[:40]!r}")
        if len(value) > MAX_VALUE_CHARS:
            raise InvalidInputError(f"filter: {name}: expected at most {MAX_VALUE_CHARS} characters")
    parse_state(given.get("state"))
    parse_order(given.get("sort") or "id")
    return {name: value for name, value in given.items() if value or name == "firmware"}


def select(given: Mapping[str, str], groups: frozenset[str] | None) -> Selection:
    """Return the devices that a checked filter means, among those of `groups`."""
    return Selection(
        model=given.get("model"),
        group=given.get("group"),
        state=parse_state(given.get("state")),
        firmware=given.get("firmware"),
        search=given.get("search"),
        groups=groups,
    )


def parse_state(text: str | None) -> DeviceState | None:
    """Return a lifecycle state; None for none. Raises InvalidInputError."""
    if not text:
        return None
    try:
        return DeviceState(text)
    except ValueError as error:
        raise InvalidInputError(f"state: expected {', '.join(DeviceState)}, found {text[:40]!r}") from error
