"""The feed is bounded in age and rows, and forgets nothing that nobody has heard of."""

from datetime import timedelta

import pytest

from fleetward.base.db import Database
from fleetward.base.events import emit, events_table, list_events, list_unpublished, mark_published
from fleetward.features.events.service import Kept, forget_old
from fleetward.features.events.service.forgetting import PAGE
from support.clock import ManualClock

DAY = timedelta(days=1)


def tell(db: Database, *texts: str, is_published: bool = True) -> None:
    with db.write("operator:test") as tx:
        for text in texts:
            emit(tx, "test.happened", text)
    if is_published:
        with db.write("system:outbox") as tx:
            mark_published(tx, [event.id for event in list_unpublished(tx)])


def kept(db: Database) -> list[str]:
    with db.read() as tx:
        return [event.message for event in list_events(tx)]


@pytest.mark.parametrize(("over", "is_kept"), [(-1, True), (0, True), (1, False)])
def test_an_event_is_forgotten_after_its_time(
    db: Database, clock: ManualClock, over: int, is_kept: bool
) -> None:
    tell(db, "old")
    clock.advance(DAY + timedelta(seconds=over))
    tell(db, "new")
    assert forget_old(db, Kept(DAY, 100)) == (0 if is_kept else 1)
    assert kept(db) == (["old", "new"] if is_kept else ["new"])


def test_an_event_that_nobody_has_heard_of_is_kept(db: Database, clock: ManualClock) -> None:
    tell(db, "heard")
    tell(db, "unheard", is_published=False)
    clock.advance(2 * DAY)
    tell(db, "new", is_published=False)
    assert forget_old(db, Kept(DAY, 1)) == 1
    assert kept(db) == ["unheard", "new"]


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_of_too_many_events_the_oldest_go(db: Database, most: int) -> None:
    tell(db, "1", "2", "3")
    forget_old(db, Kept(DAY, most))
    assert kept(db) == ["1", "2", "3"][-most:]


def test_the_newest_event_stays_for_its_id_says_how_far_the_feed_has_come(
    db: Database, clock: ManualClock
) -> None:
    tell(db, "1", "2")
    with db.read() as tx:
        last = list_events(tx)[-1].id
    clock.advance(2 * DAY)
    forget_old(db, Kept(DAY, 100))
    assert kept(db) == ["2"]
    tell(db, "3")
    with db.read() as tx:
        assert list_events(tx, after_id=last)[0].message == "3"


def test_many_are_forgotten_in_short_transactions(db: Database, clock: ManualClock) -> None:
    row = {
        "kind": "test.happened", "severity": "info", "message": "m", "details": "{}", "actor": "a",
        "at": clock.now(), "published_at": clock.now(),
    }  # fmt: skip
    with db.write("t") as tx:
        tx.conn.execute(events_table.insert(), [row] * (2 * PAGE + 1))
    clock.advance(2 * DAY)
    assert forget_old(db, Kept(DAY, 10 * PAGE)) == 2 * PAGE
    assert len(kept(db)) == 1
