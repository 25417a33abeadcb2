"""Has a feature's handler hear an event: one transaction each, and once for each event.

An event comes at least once. That a handler has handled it is written in the transaction in which it did, so
a repeat changes nothing, whatever the handler does.
"""

import msgspec

from fleetward.base.clock import parse_time
from fleetward.base.db import Database
from fleetward.base.errors import InvalidInputError
from fleetward.base.events import Event, Severity
from fleetward.base.feature import Hears
from fleetward.features.events import store


class _Message(msgspec.Struct, frozen=True):
    """An event as the outbox sends it: `Event.as_json`."""

    id: int
    time: str
    kind: str
    severity: Severity
    message: str
    actor: str
    device: str | None = None
    details: dict[str, object] = msgspec.field(default_factory=dict)


_decode = msgspec.json.Decoder(_Message).decode


def parse_event(content: bytes) -> Event:
    """Return the event in a message of the outbox. Raises InvalidInputError when it is none."""
    try:
        found = _decode(content)
    except msgspec.MsgspecError as error:
        raise InvalidInputError("event: expected one of ours, found another form") from error
    return Event(
        found.id,
        parse_time(found.time),
        found.kind,
        found.device,
        found.severity,
        found.message,
        dict(found.details),
        found.actor,
    )


def hear(db: Database, hears: Hears, event: Event) -> bool:
    """Handle an event and note that it was, or neither. Returns False for one that was handled before."""
    with db.write(f"system:{hears.name}") as tx:
        # The time is part of what is noted: a database restored from a backup counts from an older number.
        if not store.note_heard(tx, hears.name, event.id, event.at):
            return False
        hears.handle(tx, event)
    return True
