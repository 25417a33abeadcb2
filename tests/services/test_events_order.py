"""Whoever reads on from the last event they have misses none and sees none twice, whoever commits when."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from textwrap import dedent

import pytest
import sqlalchemy as sa

from fleetward.base.db import Database, Tx
from fleetward.base.events import emit, find_last_event_id, list_events
from fleetward.migrations.runner import migrate
from support.clock import ManualClock
from support.database import open_database
from support.events import Follower

_WRITERS, _ROUNDS = 8, 15


@pytest.fixture
def postgres(postgres_url: str, clock: ManualClock) -> Iterator[Database]:
    database = open_database(postgres_url, clock)
    migrate(database)
    yield database
    database.close()


def test_an_event_of_a_transaction_that_commits_late_is_not_skipped(postgres: Database) -> None:
    follower = Follower(postgres)
    with ExitStack() as slow:
        tx = slow.enter_context(postgres.write("operator:slow"))
        emit(tx, "test.happened", "slow")
        with postgres.write("operator:quick") as quick:
            emit(quick, "test.happened", "quick")
        follower.poll()
    follower.poll()
    assert follower.messages == ["quick", "slow"]
    assert follower.ids == sorted(set(follower.ids))


def test_whoever_writes_meanwhile_waits_until_the_lower_ids_are_committed(postgres: Database) -> None:
    follower = Follower(postgres)

    def write_quickly() -> None:
        with postgres.write("operator:quick") as tx:
            emit(tx, "test.happened", "quick")

    quick = threading.Thread(target=write_quickly)
    with postgres.write("operator:slow") as tx:
        emit(tx, "test.happened", "slow")
        assert [one.message for one in list_events(tx)] == ["slow"]  # it has its id
        quick.start()
        while quick.is_alive() and not _is_anybody_waiting(postgres):
            time.sleep(0.01)
        follower.poll()
    quick.join()
    follower.poll()
    assert follower.messages == ["slow", "quick"]


def test_a_transaction_that_is_rolled_back_tells_nothing(db: Database) -> None:
    with suppress(ZeroDivisionError), db.write("operator:test") as tx:
        emit(tx, "test.happened", "never")
        raise ZeroDivisionError
    follower = Follower(db)
    follower.poll()
    assert follower.messages == []


def test_a_transaction_reads_the_events_it_has_told(db: Database) -> None:
    with db.write("operator:test") as tx:
        emit(tx, "test.happened", "one")
        assert [one.message for one in list_events(tx)] == ["one"]
        emit(tx, "test.happened", "two")
        last = find_last_event_id(tx)
    with db.read() as tx:
        assert [one.message for one in list_events(tx)] == ["one", "two"]
        assert list_events(tx)[-1].id == last


def test_a_transaction_that_only_reads_may_not_tell(db: Database) -> None:
    with pytest.raises(RuntimeError, match="expected one that writes"), db.read() as tx:
        emit(tx, "test.happened", "lost")


def test_whoever_stands_still_with_its_events_written_does_not_hold_up_the_others_for_ever(
    postgres: Database,
) -> None:
    """Between writing its events and committing a process holds what others wait for."""
    with postgres.write("operator:test") as tx:
        emit(tx, "test.happened", "one")
        list_events(tx)
        shown = tx.conn.execute(sa.text("SHOW idle_in_transaction_session_timeout")).scalar_one()
    assert shown == "30s"


@pytest.mark.parametrize("seed", [1, 2])
def test_followers_see_each_event_once_and_in_one_order_while_many_write(db: Database, seed: int) -> None:
    """Writers tell at once, wait, touch rows others hold, commit late or roll back; readers read on."""
    done = threading.Event()
    followers = [Follower(db), Follower(db, page=3)]

    def follow(follower: Follower) -> None:
        while not done.is_set():
            follower.poll()

    def write(writer: int) -> list[str]:
        dice = random.Random(seed * 1000 + writer)
        told = []
        for number in range(_ROUNDS):
            texts = [f"{writer}-{number}-{part}" for part in range(dice.randint(1, 3))]
            if _write(db, texts, dice):
                told += texts
        return told

    with ThreadPoolExecutor(_WRITERS + len(followers)) as pool:
        following = [pool.submit(follow, one) for one in followers]
        told = [text for part in pool.map(write, range(_WRITERS)) for text in part]
        done.set()
        for one in following:
            one.result()
    for follower in followers:
        follower.poll()
        assert sorted(follower.messages) == sorted(told)
        assert follower.ids == sorted(set(follower.ids))
    assert followers[0].messages == followers[1].messages


def _write(db: Database, texts: list[str], dice: random.Random) -> bool:
    is_committed = dice.random() > 0.1
    with suppress(ZeroDivisionError), db.write("operator:test") as tx:
        for text in texts:
            emit(tx, "test.happened", text)
            if not db.is_sqlite:
                time.sleep(dice.random() * 0.01)
        _hold_a_row(tx)
        if not is_committed:
            raise ZeroDivisionError
    return is_committed


def _hold_a_row(tx: Tx) -> None:
    """Take the one row that all writers take, after having told: as the audit log's head is."""
    tx.conn.execute(sa.text("UPDATE audit_head SET kept = kept WHERE id = 1"))


def _is_anybody_waiting(db: Database) -> bool:
    with db.read() as tx:
        waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(tx.conn.execute(waiting).scalar_one())


def test_writers_in_other_processes_keep_the_order(db: Database) -> None:
    program = dedent("""
        import random, sys, time
        from fleetward.base.clock import SystemClock
        from fleetward.base.db import Database
        from fleetward.base.events import emit
        url, name = sys.argv[1:]
        db, dice = Database(url, SystemClock()), random.Random(name)
        for number in range(40):
            with db.write("system:test") as tx:
                emit(tx, "test.happened", f"{name}-{number}")
                time.sleep(dice.random() * 0.005)
    """)
    url = db.engine.url.render_as_string(hide_password=False)
    names = ["a", "b", "c"]
    writers = [subprocess.Popen([sys.executable, "-c", program, url, name]) for name in names]
    follower = Follower(db)
    try:
        while any(one.poll() is None for one in writers):
            follower.poll()
    finally:
        for one in writers:
            one.wait()
    follower.poll()
    assert {one.returncode for one in writers} == {0}
    assert sorted(follower.messages) == sorted(f"{name}-{number}" for name in names for number in range(40))
    assert follower.ids == sorted(set(follower.ids))
