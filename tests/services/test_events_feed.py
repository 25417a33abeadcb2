"""Who reads the feed sees what is theirs, in steps of bounded cost."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from fleetward.base.db import Database
from fleetward.base.events import Severity, emit, events_table, find_last_event_id
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, Model
from fleetward.features.events import service
from fleetward.features.events.service.reading import LOOK_AHEAD
from support.clock import ManualClock

CAMS = frozenset({"cams"})


@pytest.fixture
def fleet(db: Database) -> Database:
    with db.write("operator:test") as tx:
        devices.add_model(tx, Model("cam", attestation=AttestationPolicy.NONE))
        devices.register(tx, "cam-1", "cam", group="cams")
        devices.register(tx, "door-1", "cam", group="doors")
    return db


def tell(db: Database, *texts: str, device: str | None = None) -> None:
    with db.write("operator:test") as tx:
        for text in texts:
            emit(tx, "test.happened", text, device=device, severity=Severity.NOTICE)


def tell_many(db: Database, count: int, device: str) -> None:
    """Tell what a busy fleet tells, without its minutes."""
    row = {
        "kind": "test.happened", "device": device, "severity": "info", "message": "m", "details": "{}",
        "actor": "system:test",
    }  # fmt: skip
    with db.write("operator:test") as tx:
        tx.conn.execute(events_table.insert(), [{"at": tx.now, **row} for _ in range(count)])


def last_id(db: Database) -> int:
    with db.read() as tx:
        return find_last_event_id(tx)


def read(
    db: Database,
    after: int,
    *,
    limit: int = 100,
    groups: frozenset[str] | None = None,
    device: str | None = None,
) -> service.Page:
    with db.read() as tx:
        return service.read_page(tx, after=after, limit=limit, groups=groups, device=device)


def texts(page: service.Page) -> list[str]:
    return [event.message for event in page.events]


def test_a_reader_of_all_groups_sees_events_of_no_device_too(fleet: Database) -> None:
    start = last_id(fleet)
    tell(fleet, "of cam", device="cam-1")
    tell(fleet, "of nobody")
    tell(fleet, "of a device that is gone", device="gone-1")
    page = read(fleet, start)
    assert texts(page) == ["of cam", "of nobody", "of a device that is gone"]
    assert (page.cursor, page.is_last) == (last_id(fleet), True)
    assert texts(read(fleet, start, groups=CAMS)) == ["of cam"]
    assert texts(read(fleet, start, groups=frozenset())) == []


@pytest.mark.parametrize(("limit", "is_last"), [(2, False), (3, False), (4, True)])
def test_a_page_says_whether_there_may_be_more(fleet: Database, limit: int, is_last: bool) -> None:
    start = last_id(fleet)
    tell(fleet, "1", "2", "3", device="cam-1")
    for groups in (None, CAMS):
        page = read(fleet, start, limit=limit, groups=groups)
        assert texts(page) == ["1", "2", "3"][:limit]
        assert page.is_last is is_last
        assert texts(read(fleet, page.cursor, groups=groups)) == ["1", "2", "3"][limit:]


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_step_walks_past_a_bounded_number_of_events_of_others(fleet: Database, over: int) -> None:
    start = last_id(fleet)
    tell_many(fleet, LOOK_AHEAD + over, "door-1")
    step = read(fleet, start, groups=CAMS)
    assert step.events == []
    assert step.cursor == start + min(LOOK_AHEAD, LOOK_AHEAD + over)
    assert step.is_last is (over < 0)
    tell(fleet, "at last", device="cam-1")
    assert texts(read(fleet, step.cursor, groups=CAMS)) == ["at last"]


def test_a_reader_of_some_groups_does_not_come_back_to_what_is_not_theirs(fleet: Database) -> None:
    tell_many(fleet, 3, "door-1")
    step = read(fleet, 0, groups=CAMS)
    assert step.cursor == last_id(fleet)
    again = read(fleet, step.cursor, groups=CAMS)
    assert (again.events, again.cursor, again.is_last) == ([], step.cursor, True)


def test_the_group_that_counts_is_the_one_the_device_is_in_now(fleet: Database) -> None:
    start = last_id(fleet)
    tell(fleet, "before", device="door-1")
    with fleet.write("operator:test") as tx:
        move = sa.text('UPDATE devices SET "group" = :group WHERE id = :device')
        tx.conn.execute(move, [{"device": "door-1", "group": "cams"}, {"device": "cam-1", "group": "doors"}])
    tell(fleet, "after", device="door-1")
    tell(fleet, "elsewhere", device="cam-1")
    page = read(fleet, start, groups=CAMS)
    assert [text for text in texts(page) if text in ("before", "after", "elsewhere")] == ["before", "after"]


def test_a_device_is_read_alone_and_only_by_who_may_see_it(fleet: Database) -> None:
    start = last_id(fleet)
    tell(fleet, "of cam", device="cam-1")
    tell(fleet, "of door", device="door-1")
    assert texts(read(fleet, start, device="door-1")) == ["of door"]
    assert texts(read(fleet, start, device="cam-1", groups=CAMS)) == ["of cam"]
    assert texts(read(fleet, start, device="door-1", groups=CAMS)) == []


def test_a_time_to_begin_at_leaves_out_what_was_before(fleet: Database, clock: ManualClock) -> None:
    tell(fleet, "before", device="cam-1")
    clock.advance(timedelta(seconds=1))
    since = clock.now()
    for groups in (None, CAMS):
        with fleet.read() as tx:
            nothing = service.read_page(tx, after=0, limit=10, since=since, groups=groups)
        assert (nothing.events, nothing.is_last) == ([], True)
    tell(fleet, "on time", device="cam-1")
    clock.advance(timedelta(seconds=1))
    tell(fleet, "later", device="cam-1")
    for groups in (None, CAMS):
        with fleet.read() as tx:
            first = service.read_page(tx, after=0, limit=1, since=since, groups=groups)
            rest = service.read_page(tx, after=first.cursor, limit=9, since=since, groups=groups)
        assert (texts(first), texts(rest)) == (["on time"], ["later"])
