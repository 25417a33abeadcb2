"""Budgets: what one device sends too much is refused, and nobody else's."""

from datetime import UTC, datetime, timedelta

import pytest

from fleetward.features.messaging.intake.batch import Batch, DeviceMessage
from fleetward.features.messaging.intake.flood import WINDOW_S, FloodWatch, Patience
from fleetward.features.messaging.intake.limit import BYTES, MESSAGES, TOLD, Budget, Budgets, Limit
from fleetward.features.messaging.intake.parse import parse
from fleetward.wire.mqtt_topics import Topic, TopicKind

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SMALL = Budgets(messages=Budget(10, 2), bytes=Budget(100, 10), told=Budget(3, 0.5))
TELLING = b'{"event": "boot.refused"}'


def lines(count: int, device: str = "cam-1", payload: bytes = b"1", start: int = 1) -> list[DeviceMessage]:
    topic = Topic(device, TopicKind.LOG)
    return [DeviceMessage(topic, payload, NOW, start + one) for one in range(count)]


def through(limit: Limit, messages: list[DeviceMessage], now: datetime = NOW) -> Batch:
    """Return what is left, and what was refused, where messages are taken in."""
    admitted, refused = limit.admit(messages, now)
    found = limit(parse(admitted, {"boot.refused"}), now)
    return Batch(found.items, (*refused, *found.refused))


def limits(found: Batch) -> list[str]:
    return [one.limit for one in found.refused]


def test_a_budget_is_spent_to_the_last_and_not_beyond() -> None:
    limit = Limit(SMALL)
    assert limits(through(limit, lines(10), NOW)) == []
    assert limits(through(limit, lines(2, start=100), NOW)) == [MESSAGES, MESSAGES]
    assert len(through(limit, lines(1, "cam-2"), NOW).items) == 1


@pytest.mark.parametrize(
    ("after_s", "admitted"), [(0, 0), (0.49, 0), (0.5, 1), (1.0, 2), (3600, 10), (-60, 0)]
)
def test_it_comes_back_with_time_up_to_the_burst(after_s: float, admitted: int) -> None:
    limit = Limit(SMALL)
    through(limit, lines(10), NOW)
    again = through(limit, lines(20, start=100), NOW + timedelta(seconds=after_s))
    assert len(again.items) == admitted


@pytest.mark.parametrize(("back_s", "admitted"), [(3600, 2), (31, 2), (30, 0), (1, 0)])
def test_a_clock_that_was_set_back_counts_from_there(back_s: float, admitted: int) -> None:
    limit = Limit(SMALL)
    through(limit, lines(10), NOW)
    back = NOW - timedelta(seconds=back_s)
    assert len(through(limit, lines(5, start=100), back).items) == 0
    assert len(through(limit, lines(5, start=200), back + timedelta(seconds=1)).items) == admitted


def test_large_messages_are_bounded_by_their_bytes() -> None:
    found = through(Limit(SMALL), lines(4, payload=b'"' + b"x" * 31 + b'"'), NOW)
    assert (len(found.items), limits(found)) == (3, [BYTES])


def test_a_line_over_the_budget_of_told_events_is_kept_untold() -> None:
    found = through(Limit(SMALL), lines(4, payload=TELLING), NOW)
    assert [one.is_told for one in found.items] == [True, True, True, False]
    assert limits(found) == [TOLD]
    assert "told" in found.refused[0].reason


def test_what_comes_again_in_another_batch_is_not_counted_twice_and_judged_the_same() -> None:
    limit = Limit(SMALL)
    for _ in range(5):
        found = through(limit, lines(12), NOW)
        assert (len(found.items), limits(found)) == (10, [MESSAGES, MESSAGES])


def test_what_was_refused_before_stays_refused() -> None:
    found = through(Limit(SMALL), lines(1, payload=b"{"))
    assert (found.items, limits(found)) == ((), [""])


def test_memory_is_bounded_and_who_floods_is_not_forgotten() -> None:
    limit = Limit(SMALL, max_devices=5)
    through(limit, lines(10, "flood"), NOW)
    for number in range(50):
        through(limit, lines(1, f"quiet-{number}"), NOW)
        assert limits(through(limit, lines(1, "flood", start=1_000 + number), NOW)) == [MESSAGES]
    assert len(limit) == 5


def test_who_is_refused_more_than_that_floods_and_is_named_once_in_a_window() -> None:
    watch = FloodWatch(Patience(messages=3, bytes=100))
    assert [watch.note("cam-1", 0.0) for _ in range(6)] == [False, False, False, True, False, False]
    assert not watch.note("cam-2", 1.0)
    assert watch.note("cam-2", WINDOW_S - 0.1, messages=3)


def test_bytes_count_as_messages_do() -> None:
    watch = FloodWatch(Patience(messages=3, bytes=100))
    assert not watch.note("cam-1", 0.0, size=100)
    assert watch.note("cam-1", 0.0, size=1)


def test_a_new_window_forgets_the_one_before() -> None:
    watch = FloodWatch(Patience(messages=3, bytes=100))
    assert not watch.note("cam-1", 0.0, messages=3)
    assert not watch.note("cam-1", WINDOW_S, messages=3)
    assert watch.note("cam-1", WINDOW_S)
    assert watch.note("cam-1", 2 * WINDOW_S, messages=4)


def test_what_cannot_be_read_costs_as_much_as_what_can() -> None:
    limit = Limit(SMALL)
    assert limits(through(limit, lines(12, payload=b"{"))) == [MESSAGES, MESSAGES, *[""] * 10]
    assert limits(through(limit, lines(1, start=50))) == [MESSAGES]


def test_what_is_within_the_budgets_never_looks_like_a_flood() -> None:
    most = Limit(SMALL).most_within(10)
    assert (most.messages, most.bytes) == (30, 200)
