"""Acknowledging events: an alert stays on the front page until somebody says what came of it."""

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import NotFoundError
from fleetward.features.devices import service as devices
from fleetward.features.overview import store
from fleetward.features.overview.model.alerts import Acknowledgement


def forget_acknowledgements(tx: Tx) -> None:
    """Forget those of events that the feed has forgotten."""
    store.forget_acknowledgements(tx)


def acknowledge(tx: Tx, number: int, note: str, *, groups: frozenset[str] | None = None) -> Acknowledgement:
    """Record that somebody took note of an event; the first acknowledgement stays.

    Args:
        groups: those whose devices' events the caller may see, None for all events.

    Raises:
        NotFoundError: no such event, or none the caller may see.
    """
    among = None if groups is None else devices.select_ids(groups=groups)
    event = store.find_event(tx, number, among)
    if event is None:
        raise NotFoundError(f"event {number}: expected one that happened, found none")
    existing = store.find_acknowledgement(tx, number)
    if existing is not None:
        return existing
    made = Acknowledgement(number, tx.actor, note, tx.now)
    store.insert_acknowledgement(tx, made)
    journal.record(
        tx, "event.acknowledged", f"event:{number}", kind=event.kind, device=event.device, note=note
    )
    return made
