"""When a device attests, and what it shows."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.features.attestation.device import Schedule

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROLLS = st.floats(0, 1, exclude_max=True)


def test_a_device_attests_at_once_when_it_starts() -> None:
    assert Schedule(NOW).is_due(NOW)


@pytest.mark.parametrize(("roll", "minutes"), [(0.0, 24), (0.5, 30), (1.0, 36)])
def test_the_next_attestation_is_at_half_of_the_verdicts_life(roll: float, minutes: int) -> None:
    schedule = Schedule(NOW, failures=3).after_good(NOW, NOW + HOUR, roll=roll)
    assert schedule.due_at - NOW == timedelta(minutes=minutes)
    assert schedule.failures == 0
    assert not schedule.is_due(schedule.due_at - timedelta(seconds=1))
    assert schedule.is_due(schedule.due_at)


@given(ROLLS)
def test_a_verdict_that_has_run_out_is_renewed_at_once(roll: float) -> None:
    assert Schedule(NOW).after_good(NOW, NOW - HOUR, roll=roll).is_due(NOW)


@given(st.integers(0, 10_000), ROLLS)
def test_after_failures_a_device_waits_longer_and_never_gives_up(failures: int, roll: float) -> None:
    schedule = Schedule(NOW, failures).after_failure(NOW, roll=roll)
    assert timedelta(seconds=2) < schedule.due_at - NOW <= timedelta(minutes=10)
    assert schedule.failures == failures + 1


def test_pauses_double_up_to_ten_minutes() -> None:
    schedule, pauses = Schedule(NOW), []
    for _ in range(9):
        schedule = schedule.after_failure(NOW, roll=1.0)
        pauses.append((schedule.due_at - NOW).total_seconds())
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600]


def test_devices_that_failed_together_do_not_return_together() -> None:
    rolls = [index / 50 for index in range(50)]
    assert len({Schedule(NOW).after_failure(NOW, roll=roll).due_at for roll in rolls}) == 50
