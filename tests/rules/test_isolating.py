"""One bad message among many is found and set aside; an outage sets nothing aside."""

import asyncio
from collections.abc import Sequence

import nats
import pytest

from fleetward.base.errors import ConflictError, CorruptDataError, InvalidInputError, UnavailableError
from fleetward.outside.nats.isolating import (
    MAX_IN_A_ROW,
    MAX_TRIES,
    IsolatingHandler,
    StandstillError,
    is_outage,
)

_OUTAGES = [
    UnavailableError("database"),
    CorruptDataError("database"),
    nats.errors.TimeoutError(),
    TimeoutError(),
    ConnectionRefusedError(),
]


class Desk:
    """Handles numbers; raises `bad[n]` for the first `times` tries of each batch that holds n."""

    def __init__(self, bad: dict[int, Exception], times: int = 10**6) -> None:
        self.bad, self.times = bad, times
        self.handled: list[int] = []
        self.aside: list[tuple[int, str, int]] = []
        self.calls = 0
        self._isolating = IsolatingHandler(self.handle, on_handled=self.on_handled, on_bad=self.on_bad)

    async def handle(self, batch: list[int]) -> None:
        self.calls += 1
        for one in batch:
            if one in self.bad and self.times:
                self.times -= 1
                raise self.bad[one]

    async def on_handled(self, batch: Sequence[int]) -> None:
        self.handled += batch

    async def on_bad(self, one: int, error: Exception, failures: int) -> None:
        self.aside.append((one, type(error).__name__, failures))

    @property
    def left(self) -> list[int]:
        return self._isolating.left

    def run(self, batch: Sequence[int]) -> None:
        asyncio.run(self._isolating.run(list(batch)))


@pytest.mark.parametrize("bad", [0, 1, 249, 250, 499])
@pytest.mark.parametrize("error", [TypeError("x"), ValueError("x"), InvalidInputError("x"), KeyError("x")])
def test_a_bad_message_goes_aside_and_all_others_are_handled(bad: int, error: Exception) -> None:
    desk = Desk({bad: error})
    desk.run(range(500))
    assert sorted(desk.handled) == [one for one in range(500) if one != bad]
    assert desk.aside == [(bad, type(error).__name__, MAX_TRIES)]
    assert desk.calls <= 2 * 9 + 1 + MAX_TRIES


def test_the_order_of_messages_stays() -> None:
    desk = Desk({7: TypeError("x"), 8: TypeError("x")})
    desk.run(range(20))
    assert desk.handled == [one for one in range(20) if one not in (7, 8)]


def test_a_race_that_ends_well_the_next_time_sets_nothing_aside() -> None:
    desk = Desk({0: ConflictError("changed meanwhile")}, times=MAX_TRIES - 1)
    desk.run([0])
    assert (desk.handled, desk.aside) == ([0], [])
    desk = Desk({0: ConflictError("changed meanwhile")}, times=MAX_TRIES)
    desk.run([0])
    assert (desk.handled, len(desk.aside)) == ([], 1)


@pytest.mark.parametrize("outage", _OUTAGES)
def test_an_outage_sets_nothing_aside(outage: Exception) -> None:
    desk = Desk({3: outage})
    with pytest.raises(type(outage)):
        desk.run(range(8))
    assert (desk.handled, desk.aside, desk.calls) == ([], [], 1)


@pytest.mark.parametrize("outage", _OUTAGES)
def test_an_outage_while_a_bad_message_is_looked_for_sets_nothing_more_aside(outage: Exception) -> None:
    desk = Desk({0: TypeError("x"), 6: outage})
    with pytest.raises(type(outage)):
        desk.run(range(8))
    assert [one for one, _, _ in desk.aside] == [0]
    assert desk.handled == [1, 2, 3]


def test_when_nothing_at_all_succeeds_the_messages_are_kept() -> None:
    count = MAX_IN_A_ROW + 5
    desk = Desk({one: TypeError("x") for one in range(count)})
    with pytest.raises(StandstillError) as found:
        desk.run(range(count))
    assert is_outage(found.value)
    assert [one for one, _, _ in desk.aside] == list(range(MAX_IN_A_ROW))


def test_however_many_are_bad_each_return_sets_one_aside_and_what_follows_is_handled() -> None:
    """One device that finds a poison must not stand in the way of all others for ever."""
    count, returns = MAX_IN_A_ROW + 5, 0
    desk = Desk({one: TypeError("x") for one in range(count)})
    left: Sequence[int] = range(count + 10)
    while left:
        try:
            desk.run(left)
        except StandstillError:
            returns += 1
        left = desk.left
    assert [one for one, _, _ in desk.aside] == list(range(count))
    assert desk.handled == list(range(count, count + 10))
    assert returns == 5


@pytest.mark.parametrize("outage", _OUTAGES)
def test_what_an_outage_leaves_is_known(outage: Exception) -> None:
    desk = Desk({0: TypeError("x"), 6: outage})
    with pytest.raises(type(outage)):
        desk.run(range(8))
    assert desk.left == [4, 5, 6, 7]


def test_bad_messages_go_aside_without_end_while_others_succeed() -> None:
    desk = Desk({one: TypeError("x") for one in range(0, 200, 2)})
    desk.run(range(200))
    assert len(desk.aside) == 100
    assert len(desk.handled) == 100


@pytest.mark.parametrize("error", [TypeError(), ValueError(), ConflictError("x"), InvalidInputError("x")])
def test_what_is_about_the_message_is_no_outage(error: Exception) -> None:
    assert not is_outage(error)
