"""Small transactions that share a commit: each has its own outcome, and none pays for another."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleetward.base.db import Database, Tx
from fleetward.base.errors import FleetwardError, InvalidInputError, UnavailableError
from fleetward.base.events import emit, list_events
from fleetward.base.group import GroupWriter
from fleetward.features.audit import service as audit
from fleetward.migrations.runner import migrate
from support.clock import ManualClock
from support.database import open_database

_asking = ContextVar("asking", default="nobody")


def told(db: Database) -> list[str]:
    with db.read() as tx:
        return [event.message for event in list_events(tx)]


def say(word: str) -> Callable[[Tx], str]:
    def work(tx: Tx) -> str:
        emit(tx, "test.said", word)
        return word

    return work


class Crowd:
    """Writers that all wait while the first is at work, so that the rest share one transaction."""

    def __init__(self, db: Database, writer: GroupWriter | None = None) -> None:
        self._run = db.write_together if writer is None else writer.run
        self._writer = writer or (db._group if db.is_sqlite else None)
        self._threads = ThreadPoolExecutor(20)
        self._is_held, self._may_go = threading.Event(), threading.Event()
        self._first = self._threads.submit(self._run, "system:test", self._hold)
        assert self._is_held.wait(10)

    def _hold(self, tx: Tx) -> str:
        del tx
        self._is_held.set()
        assert self._may_go.wait(10)
        return "first"

    def write(self, work: Callable[[Tx], str], actor: str = "system:test") -> "Future[str]":
        return self._threads.submit(self._run, actor, work)

    def await_waiting(self, count: int) -> None:
        while self._writer is not None and len(self._writer._waiting) < count:
            time.sleep(0.001)

    def go(self, *expected: "Future[str]") -> None:
        self.await_waiting(len(expected))
        self._may_go.set()
        assert self._first.result(10) == "first"
        self._threads.shutdown(wait=True)


def count_commits(db: Database) -> list[int]:
    commits = [0]

    @sa.event.listens_for(db.engine, "commit")
    def count(_conn: sa.Connection) -> None:
        commits[0] += 1

    return commits


def test_each_gets_its_own_result(db: Database) -> None:
    crowd = Crowd(db)
    found = [crowd.write(say(f"word {number}")) for number in range(10)]
    crowd.go(*found)
    assert [one.result() for one in found] == [f"word {number}" for number in range(10)]
    assert sorted(told(db)) == [f"word {number}" for number in range(10)]


def test_those_who_wait_share_one_commit(sqlite: Database) -> None:
    commits = count_commits(sqlite)
    crowd = Crowd(sqlite)
    found = [crowd.write(say("x")) for _ in range(10)]
    crowd.go(*found)
    assert commits == [2]


@pytest.fixture
def sqlite(tmp_path: Path, clock: ManualClock) -> Database:
    database = open_database(f"sqlite:///{tmp_path / 'group.sqlite3'}", clock)
    migrate(database)
    return database


def test_one_that_fails_takes_nothing_of_the_others_with_it(db: Database) -> None:
    def fail(tx: Tx) -> str:
        emit(tx, "test.said", "never")
        audit.append(tx, "test.done", "test:1")
        raise InvalidInputError("work: expected good, found bad")

    def violate(tx: Tx) -> str:
        tx.conn.execute(sa.text("INSERT INTO audit_checkpoints (size, at, note) VALUES (1, 1, '')"))
        tx.conn.execute(sa.text("INSERT INTO audit_checkpoints (size, at, note) VALUES (1, 1, '')"))
        return "never"

    crowd = Crowd(db)
    before = crowd.write(say("before"))
    bad, worse = crowd.write(fail), crowd.write(violate)
    after = crowd.write(say("after"))
    crowd.go(before, bad, worse, after)
    assert (before.result(), after.result()) == ("before", "after")
    with pytest.raises(InvalidInputError, match="found bad"):
        bad.result()
    with pytest.raises(sa.exc.IntegrityError):
        worse.result()
    assert sorted(told(db)) == ["after", "before"]
    with db.read() as tx:
        assert list(audit.search(tx)) == []
        assert tx.conn.execute(sa.text("SELECT count(*) FROM audit_checkpoints")).scalar() == 0


def test_a_value_no_column_holds_is_refused_as_ever(db: Database) -> None:
    def overflow(tx: Tx) -> str:
        tx.conn.execute(
            sa.text("INSERT INTO audit_checkpoints (size, at, note) VALUES (:n, 1, '')"), {"n": 2**70}
        )
        return "never"

    with pytest.raises(InvalidInputError, match="out of range"):
        db.write_together("system:test", overflow)


def test_what_is_audited_together_stands_in_one_log(db: Database) -> None:
    def record(tx: Tx) -> str:
        return str(audit.append(tx, "test.done", "test:1"))

    crowd = Crowd(db)
    found = [crowd.write(record, f"device:cam-{number}") for number in range(8)]
    crowd.go(*found)
    assert sorted(int(one.result()) for one in found) == list(range(8))
    with db.read() as tx:
        actors = [entry.actor for entry, _ in audit.search(tx)]
    assert sorted(actors) == [f"device:cam-{number}" for number in range(8)]


def test_when_the_commit_fails_all_are_told_and_nothing_is_done(sqlite: Database) -> None:
    crowd = Crowd(sqlite)
    found = [crowd.write(say("lost")) for _ in range(3)]

    @sa.event.listens_for(sqlite.engine, "commit")
    def fail(_conn: sa.Connection) -> None:
        raise sa.exc.OperationalError("COMMIT", None, Exception("disk is full"))

    with pytest.raises(UnavailableError):
        crowd.go(*found)
    crowd._threads.shutdown(wait=True)
    for one in found:
        with pytest.raises(UnavailableError):
            one.result()
    sa.event.remove(sqlite.engine, "commit", fail)
    assert told(sqlite) == []
    assert sqlite.write_together("system:test", say("well again")) == "well again"


def test_a_leader_that_is_ended_lets_nobody_believe_in_a_commit(sqlite: Database) -> None:
    def end(tx: Tx) -> str:
        emit(tx, "test.said", "never")
        raise KeyboardInterrupt

    crowd = Crowd(sqlite)
    ended, follower = crowd.write(end), crowd.write(say("lost"))
    crowd.go(ended, follower)
    with pytest.raises(KeyboardInterrupt):
        ended.result()
    with pytest.raises(UnavailableError, match="the writer ended"):
        follower.result()
    assert told(sqlite) == []
    assert sqlite.write_together("system:test", say("well again")) == "well again"


def test_when_the_database_gives_up_the_transaction_nobody_believes_to_be_written(sqlite: Database) -> None:
    """What a full disk does inside a statement: SQLite rolls all back by itself, savepoints with it."""

    def lose(tx: Tx) -> str:
        tx.conn.connection.driver_connection.rollback()  # type: ignore[union-attr] # sqlite3's
        raise InvalidInputError("work: expected a disk, found none")

    crowd = Crowd(sqlite)
    found = [crowd.write(say("before")), crowd.write(lose), crowd.write(say("after"))]
    crowd.go(*found)
    for one in found:
        with pytest.raises(FleetwardError):
            one.result()
    assert told(sqlite) == []
    assert sqlite.write_together("system:test", say("well again")) == "well again"


def test_work_runs_in_its_callers_context(db: Database) -> None:
    def ask(tx: Tx) -> str:
        del tx
        return _asking.get()

    crowd = Crowd(db)

    def as_somebody(name: str) -> str:
        _asking.set(name)
        return db.write_together("system:test", ask)

    found = [crowd._threads.submit(as_somebody, f"n{number}") for number in range(4)]
    crowd.go(*found)
    assert [one.result() for one in found] == ["n0", "n1", "n2", "n3"]


def test_no_more_wait_than_may(sqlite: Database) -> None:
    writer = GroupWriter(sqlite._open_group, max_waiting=2)
    crowd = Crowd(sqlite, writer)
    found = [crowd.write(say("x")) for _ in range(2)]
    crowd.await_waiting(2)
    with pytest.raises(UnavailableError, match="at most 2"):
        writer.run("system:test", say("too many"))
    crowd.go(*found)
    assert told(sqlite) == ["x", "x"]


def test_many_more_than_one_group_are_all_written(sqlite: Database) -> None:
    commits = count_commits(sqlite)
    crowd = Crowd(sqlite, GroupWriter(sqlite._open_group, max_together=3))
    found = [crowd.write(say(f"{number}")) for number in range(17)]
    crowd.go(*found)
    assert commits == [7]
    assert sorted(int(one.result()) for one in found) == list(range(17))
    assert len(told(sqlite)) == 17
