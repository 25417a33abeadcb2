"""What holds back who asks too often: by property, against the plainest form of the same rule."""

import asyncio
import os
import sys
import threading
from contextvars import ContextVar
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import RateLimitedError
from fleetward.base.limiting.failures import FailureLimit
from fleetward.base.limiting.repeats import MAX_KEYS, Repeats
from fleetward.base.limiting.slow_work import NICENESS, SlowWork

INTERVAL_S, MAX = 10.0, 3
# Who comes, and how long after the one before.
STEPS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from([0.0, 1.0, 9.0, 10.0, 11.0])), max_size=60
)


class Plain:
    """The same, looking through all keys for the oldest."""

    def __init__(self) -> None:
        self.told: dict[str, tuple[float, int]] = {}

    def admit(self, key: str, now_s: float) -> int | None:
        if key in self.told and now_s - self.told[key][0] < INTERVAL_S:
            self.told[key] = (self.told[key][0], self.told[key][1] + 1)
            return None
        if key not in self.told and len(self.told) == MAX:
            del self.told[min(self.told, key=lambda one: self.told[one][0])]
        before = self.told.pop(key, (0.0, 0))[1]
        self.told[key] = (now_s, 0)
        return before


@given(STEPS)
def test_a_repeat_is_held_back_while_its_key_is_among_the_last_told(steps: list[tuple[str, float]]) -> None:
    repeats, plain, now_s = Repeats(interval_s=INTERVAL_S, max_keys=MAX), Plain(), 100.0
    for who, later in steps:
        now_s += later
        assert repeats.admit((who,), now_s) == plain.admit(who, now_s)
        assert len(repeats) <= MAX


@given(STEPS)
def test_each_repeat_is_told_of_once_where_there_is_room_for_all(steps: list[tuple[str, float]]) -> None:
    repeats, now_s, told = Repeats(interval_s=INTERVAL_S), 0.0, 0
    for who, later in steps:
        now_s += later
        held_back = repeats.admit((who,), now_s)
        told += 0 if held_back is None else held_back + 1
    for who in "abcdef":
        told += repeats.admit((who,), now_s + INTERVAL_S) or 0
    assert told == len(steps)


def test_what_was_held_back_is_counted_long_after_its_time() -> None:
    repeats = Repeats(interval_s=10)
    assert [repeats.admit(("a",), at) for at in (0.0, 5.0, 9.9)] == [0, None, None]
    assert repeats.admit(("a",), 10_000.0) == 2
    assert repeats.admit(("a",), 20_000.0) == 0


def test_the_time_is_over_at_its_end() -> None:
    repeats = Repeats(interval_s=10)
    repeats.admit(("a",), 0.0)
    assert repeats.admit(("a",), 10.0) == 0


def test_what_could_not_be_told_is_told_with_the_next() -> None:
    repeats = Repeats(interval_s=10)
    assert [repeats.admit(("a",), at) for at in (0.0, 1.0, 10.0)] == [0, None, 1]
    repeats.give_back(("a",), 1)
    assert repeats.admit(("a",), 11.0) is None
    assert repeats.admit(("a",), 20.0) == 3
    repeats.give_back(("never seen",), 4)
    assert repeats.admit(("never seen",), 20.0) == 0


class Counted(tuple[str, ...]):
    """A key that counts how often one of its kind was looked up."""

    __slots__ = ()
    looked_up = 0

    def __hash__(self) -> int:
        Counted.looked_up += 1
        return super().__hash__()


def test_a_new_key_costs_the_same_when_all_places_are_taken() -> None:
    repeats, failures = Repeats(), FailureLimit("test", failures=1)
    for number in range(MAX_KEYS):
        key = Counted((str(number),))
        repeats.admit(key, 0.0)
        failures.record(key, 0.0)
    Counted.looked_up = 0
    for number in range(100):
        new = Counted((f"new {number}",))
        repeats.admit(new, 1.0)
        failures.check(new, 1.0)
        failures.record(new, 1.0)
    assert Counted.looked_up <= 100 * 16
    assert len(repeats) == len(failures) == MAX_KEYS


@given(STEPS)
def test_who_fails_too_often_waits_until_enough_failures_are_over(steps: list[tuple[str, float]]) -> None:
    limit, now_s = FailureLimit("test", failures=2, window_s=INTERVAL_S, max_keys=MAX), 0.0
    kept: dict[str, list[float]] = {}  # whoever failed longest ago comes first
    for who, later in steps:
        now_s += later
        recent = [at for at in kept.get(who, []) if at > now_s - INTERVAL_S]
        if len(recent) >= 2:
            with pytest.raises(RateLimitedError) as caught:
                limit.check((who,), now_s)
            assert caught.value.details["retry_after_s"] == max(1, round(recent[-2] + INTERVAL_S - now_s))
        else:
            limit.check((who,), now_s)
        limit.record((who,), now_s)
        kept.pop(who, None)
        kept[who] = [*recent, now_s]
        while len(kept) > MAX:
            del kept[next(iter(kept))]
        assert len(limit) <= MAX


def test_who_failed_last_is_the_last_to_be_forgotten() -> None:
    limit = FailureLimit("test", failures=2, max_keys=2)
    for at, who in enumerate(("a", "b", "a", "c")):
        limit.record((who,), float(at))
    with pytest.raises(RateLimitedError):
        limit.check(("a",), 4.0)
    limit.record(("b",), 4.0)
    limit.check(("b",), 4.0)


def test_failures_are_counted_per_key_and_forgotten_with_time() -> None:
    limit = FailureLimit("test", failures=2, window_s=10)
    for now_s in (0.0, 1.0):
        limit.check(("a",), now_s)
        limit.record(("a",), now_s)
    with pytest.raises(RateLimitedError) as caught:
        limit.check(("a",), 2.0)
    assert caught.value.details["retry_after_s"] == 8
    limit.check(("b",), 2.0)
    limit.check(("a",), 10.5)


def test_the_limit_holds_a_bounded_number_of_keys() -> None:
    limit = FailureLimit("test", failures=1)
    for number in range(10_050):
        limit.record((str(number),), 0.0)
    limit.check(("0",), 0.0)
    with pytest.raises(RateLimitedError):
        limit.check(("10049",), 0.0)


WHO = ContextVar[str]("WHO", default="nobody")


def test_slow_work_returns_what_it_found_in_the_callers_context() -> None:
    work = SlowWork("tests", threads=1, waiting=0, each=1)

    def fail() -> None:
        raise KeyError("found nothing")

    async def play() -> None:
        WHO.set("ann")
        assert await work.run("a", WHO.get) == "ann"
        with pytest.raises(KeyError, match="found nothing"):
            await work.run("a", fail)
        assert await work.run("a", WHO.get) == "ann", "what failed gave its place back"

    asyncio.run(play())


def test_slow_work_is_bounded_in_all_and_of_each() -> None:
    work, may_end = SlowWork("tests", threads=1, waiting=2, each=2), Event()

    async def play() -> None:
        held = [asyncio.create_task(work.run(who, lambda: may_end.wait(60))) for who in "aab"]
        await asyncio.sleep(0)
        with pytest.raises(RateLimitedError, match="at most 2 at once of yours"):
            await work.run("a", may_end.is_set)
        with pytest.raises(RateLimitedError, match="at most 3 at once in all"):
            await work.run("c", may_end.is_set)
        may_end.set()
        assert await asyncio.gather(*held) == [True] * 3
        assert await work.run("c", may_end.is_set)

    asyncio.run(play())


def test_who_goes_away_holds_the_place_while_the_work_goes_on_and_never_longer() -> None:
    work = SlowWork("tests", threads=1, waiting=1, each=1)
    began, may_end = Event(), Event()

    def go_on() -> bool:
        began.set()
        return may_end.wait(60)

    async def play() -> None:
        running = asyncio.create_task(work.run("a", go_on))
        await asyncio.to_thread(began.wait, 60)
        queued = asyncio.create_task(work.run("b", go_on))
        await asyncio.sleep(0)
        for one in (running, queued):
            one.cancel()
        await asyncio.wait([running, queued])
        with pytest.raises(RateLimitedError, match="of yours"):
            await work.run("a", go_on)
        later = asyncio.create_task(work.run("b", may_end.is_set))
        await asyncio.sleep(0)
        may_end.set()
        assert await later, "what never began left its place at once"

    asyncio.run(play())


def test_slow_work_that_is_closed_takes_no_more() -> None:
    work = SlowWork("tests", threads=1, waiting=0, each=1)
    work.close()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            asyncio.run(work.run("a", WHO.get))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_slow_work_runs_behind_the_rest_of_the_process() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    work = SlowWork("tests", threads=1, waiting=0, each=1)
    before = priority()
    assert asyncio.run(work.run("a", priority)) == NICENESS
    assert priority() == before
    work.close()
