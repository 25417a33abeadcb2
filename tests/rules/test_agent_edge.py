"""Where an ability's failure ends: each hook, alone and beside abilities that are well."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from fleetward.programs.agent.abilities.ability import Ability, Reading
from fleetward.programs.agent.edge import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S
from fleetward.programs.agent.inbox import Logged
from fleetward.programs.agent.keys import DeviceKeys
from fleetward.wire.command import Command, CommandResult
from fleetward.wire.mqtt_topics import TopicKind
from support.agent_edge import (
    HOOKS,
    KEYS,
    NOTE,
    NOW,
    READING,
    REFUSED,
    Fragile,
    Guard,
    Rig,
    Sturdy,
    make_rig,
)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return make_rig(tmp_path, Fragile, Sturdy)


def test_every_hook_reaches_every_ability(rig: Rig) -> None:
    rig.use_all()
    hooks = {*HOOKS} - {"perform"}
    rig.turn(lambda: hooks <= {*Sturdy.seen} and {*HOOKS} <= {*Fragile.seen})
    assert rig.failures == []
    assert rig.results == [CommandResult(ok=True)]
    assert rig.edge.commands == {"break-now", "never-ends", "hold"}
    rig.edge.stop()
    assert Fragile.seen[-1] == Sturdy.seen[-1] == "stop"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_raises_ends_its_ability_alone_is_named_and_tried_again(rig: Rig, hook: str) -> None:
    Fragile.breaks.add(hook)
    rig.use_all()
    rig.turn(lambda: bool(rig.failures) and {*HOOKS} - {"perform"} <= {*Sturdy.seen})
    [told] = rig.failures
    kind = {"__init__": "start", "done": "work"}.get(hook, hook)
    assert (told["ability"], told["hook"], told["level"]) == ("fragile", kind, "error")
    assert (told["code"], told["reason"]) == ("unavailable", "chip: expected an answer, found none")
    assert (told["failures"], told["retry_in_s"]) == (1, FIRST_PAUSE_S)
    assert (Fragile.seen.count("stop"), Sturdy.seen.count("stop")) == (int(hook != "__init__"), 0)
    assert "connect" in rig.core.asked
    status = rig.edge.status()
    assert status["sturdy"] == "well"
    assert (status["fragile"]["failed"], status["fragile"]["code"]) == (kind, "unavailable")

    Fragile.breaks.clear()
    Fragile.seen.clear()
    rig.retry_now()
    caught_up = ["__init__", "start", "on_desired", "on_keys", "on_identity", "on_session"]
    # In the thread of its own, work may come in between.
    assert [one for one in Fragile.seen if one in caught_up] == caught_up
    assert rig.edge.status() == {"fragile": "well", "sturdy": "well"}
    assert rig.logged[-1]["event"] == "ability_restarted"


def test_an_error_nobody_expected_is_told_with_its_place(rig: Rig) -> None:
    Fragile.breaks.add("on_keys")
    Fragile.error = ZeroDivisionError("division by zero " * 100)
    rig.use_all()
    [told] = rig.failures
    assert told["code"] == "internal"
    assert told["reason"].startswith("ZeroDivisionError: division by zero")
    assert len(told["reason"]) == 500
    assert told["where"][-1].endswith(" _note")
    assert "agent_edge.py:" in told["where"][-1]


def test_what_ends_a_process_passes(rig: Rig) -> None:
    Fragile.breaks.add("on_keys")
    Fragile.error = cast("Exception", KeyboardInterrupt())
    rig.edge.start()
    with pytest.raises(KeyboardInterrupt):
        rig.edge.on_keys(KEYS)


def test_pauses_double_up_to_five_minutes_and_begin_anew_after_ten_steady_ones(rig: Rig) -> None:
    Fragile.breaks.add("on_keys")
    rig.edge.start()
    rig.edge.on_keys(KEYS)
    for _ in range(11):
        rig.retry_now()
    pauses = [one["retry_in_s"] for one in rig.failures]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    for held_s, expected in ((STEADY_S - 1, 13), (STEADY_S, 1)):
        Fragile.breaks.clear()
        rig.retry_now()
        rig.now_s[0] += held_s
        Fragile.breaks.add("on_keys")
        rig.edge.on_keys(KEYS)
        assert rig.failures[-1]["failures"] == expected


def test_what_a_failed_start_left_behind_is_dropped(rig: Rig) -> None:
    rig.edge.start()
    left = rig.edge._seats[0].tools
    assert left is not None
    Fragile.breaks.add("on_keys")
    rig.edge.on_keys(KEYS)
    Fragile.breaks.clear()
    rig.retry_now()
    late: list[str] = []
    left.after(0.0, lambda: late.append("timer"))
    left.post(lambda: late.append("post"))
    left.submit(lambda: 1, lambda _: late.append("work"))
    left.run_thread("late", lambda: 1 // 0)
    done = threading.Event()
    rig.edge._seats[0].tools.submit(lambda: 1, lambda _: done.set())  # type: ignore[union-attr]
    rig.turn(done.is_set)
    assert late == []
    assert len(rig.failures) == 1


def test_new_work_waits_for_the_work_of_the_start_before(rig: Rig) -> None:
    rig.edge.start()
    left, may_end = rig.edge._seats[0].tools, threading.Event()
    order: list[str] = []
    assert left is not None

    def old_work() -> None:
        may_end.wait(10)
        order.append("old")

    left.submit(old_work, lambda _: None)
    Fragile.breaks.add("on_keys")
    rig.edge.on_keys(KEYS)
    Fragile.breaks.clear()
    rig.retry_now()
    again = rig.edge._seats[0].tools
    assert again is not None
    again.submit(lambda: order.append("new"), lambda _: None)
    may_end.set()
    rig.turn(lambda: order == ["old", "new"])


def test_a_command_under_way_when_its_ability_fails_is_answered_once(rig: Rig) -> None:
    rig.edge.start()
    rig.edge.perform(Command(7, "never-ends", {}, NOW), rig.results.append)
    assert rig.results == []
    Fragile.breaks.add("on_keys")
    rig.edge.on_keys(KEYS)
    [result] = rig.results
    assert not result.ok
    assert result.error == (
        "fragile does not run now: on_keys: unavailable: chip: expected an answer, found none"
    )
    rig.edge.perform(Command(8, "break-now", {}, NOW), rig.results.append)
    assert rig.results[1].error == result.error


def test_a_command_is_answered_once_however_often_its_ability_fails(rig: Rig) -> None:
    rig.edge.start()
    rig.edge.perform(Command(7, "never-ends", {}, NOW), rig.results.append)
    for _ in range(2):
        Fragile.breaks.add("on_keys")
        rig.edge.on_keys(KEYS)
        assert [one.ok for one in rig.results] == [False]
        Fragile.breaks.clear()
        rig.retry_now()


def test_what_a_start_before_says_of_a_command_is_not_the_answer_to_it_now(tmp_path: Path) -> None:
    finishes: list[Callable[[CommandResult], None]] = []

    class Slow(Fragile):
        def perform(self, command: Command, finish: Callable[[CommandResult], None]) -> None:
            assert command.name == "never-ends"
            finishes.append(finish)

    rig = make_rig(tmp_path, Slow)
    rig.edge.start()
    rig.edge.perform(Command(7, "never-ends", {}, NOW), rig.results.append)
    Fragile.breaks.add("on_keys")
    rig.edge.on_keys(KEYS)
    Fragile.breaks.clear()
    rig.retry_now()
    rig.edge.perform(Command(7, "never-ends", {}, NOW), rig.results.append)
    finishes[0](CommandResult(ok=True, output="of the start before"))
    assert [one.ok for one in rig.results] == [False]
    finishes[1](CommandResult(ok=True, output="of this one"))
    assert [one.output for one in rig.results[1:]] == ["of this one"]


def test_a_command_that_raises_is_answered_with_why(rig: Rig) -> None:
    Fragile.breaks.add("perform")
    rig.edge.start()
    rig.edge.perform(Command(7, "break-now", {}, NOW), rig.results.append)
    [result] = rig.results
    assert "perform: unavailable: chip" in result.error


def test_a_failed_stage_is_passed_by(rig: Rig) -> None:
    rig.edge.start()
    assert rig.edge.going_up(READING) == Reading(TopicKind.TELEMETRY, "temp", "changed")
    assert rig.edge.from_application(NOTE) == Logged("changed")
    Fragile.breaks.add("going_up")
    assert rig.edge.going_up(READING) == READING
    assert rig.edge.going_up(READING) == READING
    assert rig.edge.from_application(NOTE) == NOTE


def test_a_failed_guard_withholds_and_counts_what_it_could_not_look_at(tmp_path: Path) -> None:
    rig = make_rig(tmp_path, Guard, Sturdy)
    rig.edge.start()
    assert rig.edge.going_up(READING) is not None
    Fragile.breaks.add("going_up")
    Sturdy.seen.clear()
    assert rig.edge.going_up(READING) is None
    assert rig.edge.going_up(READING) is None
    assert "going_up" not in Sturdy.seen
    assert rig.edge.status()["fragile"]["withheld"] == 2
    assert rig.edge.from_application(NOTE) == NOTE


def test_a_guard_that_never_started_withholds(tmp_path: Path) -> None:
    rig = make_rig(tmp_path, Guard)
    Fragile.breaks.add("__init__")
    rig.edge.start()
    assert rig.edge.going_up(READING) is None


def test_a_session_waits_for_who_objects_and_not_for_who_has_failed(rig: Rig) -> None:
    rig.edge.start()
    assert not rig.edge.allows_session()
    Fragile.breaks.add("allows_session")
    assert rig.edge.allows_session()
    assert rig.edge.allows_session()


def test_who_starts_after_the_session_was_lost_is_not_told_of_it(rig: Rig) -> None:
    rig.edge.start()
    rig.edge.on_session("device-1")
    rig.edge.on_session_lost()
    Fragile.breaks.add("on_refused")
    rig.edge.on_refused("device-1", REFUSED)
    Fragile.seen.clear()
    rig.retry_now()
    assert "on_session" not in Fragile.seen


def test_a_stop_that_raises_is_told_and_the_others_stop(rig: Rig) -> None:
    rig.edge.start()
    said = rig.edge.status()
    Fragile.breaks.add("stop")
    rig.edge.stop()
    assert Sturdy.seen[-1] == "stop"
    assert [one["hook"] for one in rig.failures] == ["stop"]
    assert rig.edge.status() == said
    assert [seat.retry for seat in rig.edge._seats] == [None, None]


def test_who_was_started_last_is_stopped_first(tmp_path: Path) -> None:
    order: list[str] = []

    class First(Fragile):
        def start(self) -> None:
            order.append("start first")

        def stop(self) -> None:
            order.append("stop first")

    class Second(Sturdy):
        def start(self) -> None:
            order.append("start second")

        def stop(self) -> None:
            order.append("stop second")

    rig = make_rig(tmp_path, First, Second)
    rig.edge.start()
    rig.edge.stop()
    assert order == ["start first", "start second", "stop second", "stop first"]


def test_nothing_starts_again_after_the_end(rig: Rig) -> None:
    rig.edge.start()
    Fragile.breaks.add("on_keys")
    rig.edge.on_keys(KEYS)
    retry = rig.edge._seats[0].retry
    assert retry is not None
    rig.edge.stop()
    assert retry.is_cancelled
    Sturdy.breaks.add("on_keys")
    rig.edge.on_keys(KEYS)
    assert [seat.retry for seat in rig.edge._seats] == [None, None]


def test_a_name_or_command_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="each name once, found fragile twice"):
        make_rig(tmp_path, Fragile, Guard)

    class Other(Ability):
        name = "other"
        commands = frozenset({"hold"})

    with pytest.raises(ValueError, match="each command once, found hold twice"):
        make_rig(tmp_path, Sturdy, Other)


def test_a_failure_within_a_failing_hook_ends_it_once(tmp_path: Path) -> None:
    class Twice(Fragile):
        def on_keys(self, keys: DeviceKeys) -> None:
            made.edge.going_up(READING)
            super().on_keys(keys)

    made = make_rig(tmp_path, Twice)
    made.edge.start()
    Fragile.breaks |= {"going_up", "on_keys"}
    made.edge.on_keys(KEYS)
    assert [one["hook"] for one in made.failures] == ["going_up", "on_keys"]
    assert [one["failures"] for one in made.failures] == [1, 1]
    assert Fragile.seen.count("stop") == 1
    assert made.edge.status()["fragile"]["failed"] == "going_up"
    assert len([timer for timer in made.loop._timers if timer.due_s > time.monotonic() + 0.5]) == 1
