"""A handler hears each event once, whatever happens to it or to others."""

import json
from datetime import timedelta

import pytest

from fleetward.base.db import Database
from fleetward.base.errors import ConflictError, InvalidInputError
from fleetward.base.events import Event, Severity, emit, list_events
from fleetward.base.feature import Hears
from fleetward.features.events.service import HEARD_KEPT, forget_heard, hear, parse_event
from support.clock import ManualClock

DAY = timedelta(days=1)


def tell(db: Database, text: str) -> None:
    with db.write("operator:test") as tx:
        emit(tx, "test.happened", text)


def kept(db: Database) -> list[str]:
    with db.read() as tx:
        return [event.message for event in list_events(tx)]


def event_of(db: Database, text: str) -> Event:
    tell(db, text)
    with db.read() as tx:
        return list_events(tx)[-1]


def test_an_event_is_handled_once_by_each_handler(db: Database) -> None:
    heard: list[tuple[str, str]] = []

    def hears(name: str) -> Hears:
        kinds = frozenset({"test.happened"})
        return Hears(name, kinds, lambda tx, event: heard.append((tx.actor, event.message)))

    first, second = event_of(db, "first"), event_of(db, "second")
    assert [hear(db, hears("one"), event) for event in (first, first, second)] == [True, False, True]
    assert hear(db, hears("two"), first)
    assert heard == [("system:one", "first"), ("system:one", "second"), ("system:two", "first")]


def test_a_handler_that_fails_leaves_nothing_and_hears_it_again(db: Database) -> None:
    is_failing = True

    def handle(tx: object, event: Event) -> None:
        emit(tx, "test.answered", event.message)  # type: ignore[arg-type]
        if is_failing:
            raise ConflictError("test: expected to work, found a fault")

    hears = Hears("one", frozenset({"test.happened"}), handle)
    event = event_of(db, "first")
    with pytest.raises(ConflictError):
        hear(db, hears, event)
    assert kept(db) == ["first"]
    is_failing = False
    assert hear(db, hears, event)
    assert kept(db) == ["first", "first"]


def test_the_same_number_at_another_time_is_another_event(db: Database) -> None:
    """A database restored from a backup counts from an older number."""
    hears = Hears("one", frozenset({"test.happened"}), lambda _tx, _event: None)
    event = event_of(db, "first")
    other = Event(event.id, event.at + DAY, event.kind, None, event.severity, "other")
    assert hear(db, hears, event)
    assert hear(db, hears, other)


def test_what_was_handled_is_forgotten_when_it_cannot_come_again(db: Database, clock: ManualClock) -> None:
    hears = Hears("one", frozenset({"test.happened"}), lambda _tx, _event: None)
    event = event_of(db, "first")
    assert hear(db, hears, event)
    for over, comes_again in ((timedelta(0), False), (timedelta(seconds=1), True)):
        clock.set(event.at + HEARD_KEPT + over)
        with db.write("t") as tx:
            forget_heard(tx)
        assert hear(db, hears, event) is comes_again


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"[]", b"null", b'{"id": "x"}', b'{"id": 1}', b"\xff", b"[" * 9999]
)
def test_what_is_no_event_of_ours_is_refused(junk: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_event(junk)


def test_an_event_is_read_as_it_was_sent(db: Database) -> None:
    with db.write("operator:test") as tx:
        emit(tx, "test.happened", "told", device="cam-1", severity=Severity.WARNING, why=["odd", 1])
    with db.read() as tx:
        [event] = list_events(tx)
    assert parse_event(json.dumps(event.as_json()).encode()) == event
