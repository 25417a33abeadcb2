"""Timers and cleaners of the doors: none stopped by another's failure, none cut off in the middle."""

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError
from fleetward.base.feature import Feature, Forget, House, Role, Timer
from fleetward.programs.server.timers import acts_of, repeat
from support.clock import ManualClock
from support.database import open_database


def make_house(folder: Path) -> House:
    clock = ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))
    return House(open_database(f"sqlite:///{folder / 'db.sqlite3'}", clock), clock)


def test_cancelling_waits_for_the_act_that_is_running() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def act() -> None:
        begun.set()
        may_end.wait(10)
        ended.set()

    async def run() -> None:
        task = asyncio.create_task(repeat("slow", act, every_s=60))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=0.2)
        assert not done, "it left while its act was running"
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(run())


def test_cancelling_twice_still_waits() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def act() -> None:
        begun.set()
        may_end.wait(10)
        raise ConflictError("slow: expected nothing, found the end")

    async def run() -> None:
        task = asyncio.create_task(repeat("slow", act, every_s=60))
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.02)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_a_failing_act_comes_again() -> None:
    failures = [ConflictError("act: expected luck, found none"), ValueError("odd"), ValueError("again")]
    is_through = threading.Event()

    def act() -> None:
        if not failures:
            is_through.set()
            return
        raise failures.pop()

    async def run() -> None:
        task = asyncio.create_task(repeat("failing", act, every_s=0.01))
        assert await asyncio.to_thread(is_through.wait, 20)
        task.cancel()

    asyncio.run(run())


def test_a_failing_cleaner_stops_no_other(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    with house.db.write("system:test") as tx:
        tx.conn.exec_driver_sql("CREATE TABLE old (name TEXT)")
        tx.conn.exec_driver_sql("INSERT INTO old VALUES ('a'), ('b'), ('c')")

    def forget(name: str) -> Forget:
        def act(tx: Tx) -> None:
            tx.conn.execute(sa.text("DELETE FROM old WHERE name = :name"), {"name": name})
            if name == "b":
                raise ConflictError("b: expected to go, found it does not want to")

        return Forget(name, None, act)

    doors = [Feature("first", forgets=(forget("a"), forget("b"))), Feature("second", forgets=(forget("c"),))]
    acts = acts_of(doors, house, {Role.WORKER})
    is_all_done = threading.Event()
    house.db.on_write(lambda: is_all_done.set() if count_old(house) == 1 else None)
    assert [one.name for one in acts] == ["forget-first-a", "forget-first-b", "forget-second-c"]

    async def run() -> None:
        tasks = [asyncio.create_task(repeat(one.name, one.act, every_s=one.every_s)) for one in acts]
        assert await asyncio.to_thread(is_all_done.wait, 20)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    with house.db.read() as tx:
        assert [row.name for row in tx.conn.execute(sa.text("SELECT name FROM old"))] == ["b"]


def count_old(house: House) -> int:
    with house.db.read() as tx:
        return int(tx.conn.execute(sa.text("SELECT count(*) FROM old")).scalar_one())


def test_a_timer_runs_only_in_processes_of_its_role(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    door = Feature(
        "first",
        timers=(
            Timer("of-workers", 5.0, Role.WORKER, lambda _house: None),
            Timer("of-routes", 7.0, Role.API, lambda _house: None),
        ),
        forgets=(Forget("rows", None, lambda _tx: None),),
    )
    assert [(one.name, one.every_s) for one in acts_of([door], house, {Role.API})] == [("of-routes", 7.0)]
    assert [one.name for one in acts_of([door], house, {Role.WORKER})] == ["of-workers", "forget-first-rows"]
    assert acts_of([door], house, {Role.CALLOUT}) == []
