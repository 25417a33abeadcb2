"""What the intake writes, over both databases: once, in short transactions, with few statements."""

import json
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from fleetward.base.db import Database
from fleetward.base.events import Event, list_events
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, Model
from fleetward.features.messaging import handlers, service
from fleetward.features.messaging.intake import keep
from fleetward.features.messaging.intake.batch import DeviceMessage
from fleetward.wire.mqtt_topics import Topic, TopicKind
from support.clock import ManualClock


@pytest.fixture(autouse=True)
def _devices(db: Database) -> None:
    with db.write("operator:test") as tx:
        devices.add_model(tx, Model("sensor", attestation=AttestationPolicy.NONE))
        for device in ("cam-1", "cam-2"):
            devices.register(tx, device, "sensor")


def log_line(db: Database, number: int, sender: str = "cam-1", /, **value: object) -> DeviceMessage:
    payload = json.dumps({"event": "boot.refused", "n": number} | value).encode()
    return DeviceMessage(Topic(sender, TopicKind.LOG), payload, db.clock.now(), number)


def told(db: Database, device: str = "cam-1") -> list[Event]:
    with db.read() as tx:
        return [one for one in list_events(tx, device=device, limit=10_000) if one.kind == "boot.refused"]


@contextmanager
def counting(db: Database) -> Iterator[list[str]]:
    """Yield the statements that run, each with its number of rows, and "COMMIT" among them."""
    seen: list[str] = []

    def on_execute(
        _c: object, _cursor: object, statement: str, rows: Sized, _context: object, is_many: bool
    ) -> None:
        seen.append(f"{statement} -- {len(rows) if is_many else 1} rows")

    def on_commit(_c: object) -> None:
        seen.append("COMMIT")

    sa.event.listen(db.engine, "before_cursor_execute", on_execute)
    sa.event.listen(db.engine, "commit", on_commit)
    yield seen
    sa.event.remove(db.engine, "before_cursor_execute", on_execute)
    sa.event.remove(db.engine, "commit", on_commit)


def statements_for(db: Database, lines: int, start: int) -> list[str]:
    with counting(db) as seen:
        handlers.take_in(db, (), [log_line(db, start + one) for one in range(lines)])
    return seen


def test_a_told_line_costs_the_same_however_many_were_told_before(db: Database) -> None:
    """Another case of this was 7 s of one device's lines, with the write lock held."""
    first = statements_for(db, 200, 1)
    later = statements_for(db, 200, 1_001)
    assert len(later) == len(first)
    assert len(told(db)) == 400
    assert not [one for one in later if "FROM events" in one]
    assert len(later) <= 200 * 1.5


def test_no_transaction_holds_more_lines_than_fit_in_its_time(db: Database) -> None:
    seen = statements_for(db, 500, 1)
    events = [one for one in seen if one.startswith("INSERT INTO events")]
    rows = [int(one.rsplit(maxsplit=2)[1]) for one in events]
    assert max(rows) <= keep.TOLD_A_TRANSACTION
    assert sum(rows) == 500
    assert seen.count("COMMIT") == len(rows)


def test_a_line_that_comes_again_is_told_once(db: Database, clock: ManualClock) -> None:
    line = log_line(db, 7)
    handlers.take_in(db, (), [line, line])
    clock.advance(timedelta(days=1))
    handlers.take_in(db, (), [line])
    assert len(told(db)) == 1


def test_a_line_with_an_id_is_told_once_whatever_number_it_comes_under(db: Database) -> None:
    payload = b'{"id": "m-1", "value": {"event": "boot.refused"}}'
    for number in (1, 2, 0):
        message = DeviceMessage(Topic("cam-1", TopicKind.LOG), payload, db.clock.now(), number)
        handlers.take_in(db, (), [message])
    other = DeviceMessage(Topic("cam-2", TopicKind.LOG), payload, db.clock.now(), 3)
    handlers.take_in(db, (), [other])
    assert (len(told(db)), len(told(db, "cam-2"))) == (1, 1)
    assert told(db)[0].details["reading"] == "m-1"


def test_lines_nothing_tells_apart_are_each_told(db: Database) -> None:
    handlers.take_in(db, (), [log_line(db, 0), log_line(db, 0)])
    assert len(told(db)) == 2


def test_a_stranger_tells_nothing(db: Database) -> None:
    handlers.take_in(db, (), [log_line(db, 1, "nobody"), log_line(db, 2)])
    assert told(db, "nobody") == []
    assert len(told(db)) == 1


@pytest.mark.parametrize(
    ("severity", "shown"),
    [("critical", "critical"), ("info", "info"), ("loud", "warning"), ([], "warning"), (None, "warning")],
)
def test_a_line_says_its_severity_in_our_words_or_is_a_warning(
    db: Database, severity: object, shown: str
) -> None:
    handlers.take_in(db, (), [log_line(db, 1, severity=severity)])
    assert told(db)[0].severity == shown


@pytest.mark.parametrize("event", ["session.refused", "boot", [], {}, None, 1, ["boot.refused"]])
def test_a_device_speaks_in_no_other_rooms_name(db: Database, event: object) -> None:
    handlers.take_in(db, (), [log_line(db, 1, event=event)])
    with db.read() as tx:
        assert [one.kind for one in list_events(tx) if one.actor == "system:messaging"] == []


def test_what_a_line_says_is_cut_to_size_and_cannot_name_another(db: Database) -> None:
    many = {"device": "cam-2"} | {f"k{number}": "x" * 1_000 for number in range(50)}
    handlers.take_in(db, (), [log_line(db, 1, message="m" * 1_000, **{"kind": "x", **many})])
    (event,) = told(db)
    assert event.device == "cam-1"
    assert len(event.message) < 400
    assert "device" not in event.details["said"]
    assert len(event.details["said"]) <= 20
    assert all(len(str(value)) <= 300 for value in event.details["said"].values())


def test_many_reports_of_one_device_are_one_write(db: Database) -> None:
    def report(version: int) -> DeviceMessage:
        state = {"firmware": {"version": f"1.{version}"}}
        payload = json.dumps({"version": version, "state": state}).encode()
        return DeviceMessage(Topic("cam-1", TopicKind.SHADOW_REPORTED), payload, db.clock.now(), version)

    versions = [5, 3, 9, 0, 2, 2, 1]
    with counting(db) as seen:
        taken, _ = handlers.take_in(db, (), [report(one) for one in versions])
    assert [one.reported_version for one in taken.shadows] == [2]
    assert sum(one.startswith(("INSERT INTO shadows", "UPDATE shadows")) for one in seen) == 1
    with db.read() as tx:
        assert service.get_shadow(tx, "cam-1").reported == {"firmware": {"version": "1.2"}}
        assert devices.get_device(tx, "cam-1").firmware_version == "1.2"


def test_answers_to_commands_that_are_not_open_cost_one_look(db: Database) -> None:
    def answer(number: int) -> DeviceMessage:
        topic = Topic("cam-2", TopicKind.COMMAND_RESULT, str(number))
        return DeviceMessage(topic, b'{"ok": true}', db.clock.now(), number)

    with db.write("operator:test") as tx:
        number = service.queue_command(tx, "cam-2", "ping", {}, 30).id
    with counting(db) as seen:
        taken, _ = handlers.take_in(db, (), [answer(10**18 - one) for one in range(1, 301)])
    assert taken.answered == []
    assert len(seen) <= 3 * 300 / keep.RESULTS_A_TRANSACTION + 1
    taken, _ = handlers.take_in(db, (), [answer(number), answer(number)])
    assert taken.answered == [("cam-2", number)]
