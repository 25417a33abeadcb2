from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError
from fleetward.features.messaging.device import (
    Action,
    ApplyDesired,
    Backoff,
    DeviceSession,
    Enqueue,
    OutboundWindow,
    RunCommand,
    SaveState,
    Subscribe,
)
from fleetward.wire.command import Command, CommandResult, parse_result, render_command
from fleetward.wire.shadow import Desired, parse_reported, render_shadow

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def new_session(saved: bytes | None = None) -> DeviceSession:
    return DeviceSession("cam-1", commands=("ping", "reboot"), saved=saved)


def saved_by(actions: list[Action]) -> bytes:
    return [action.content for action in actions if isinstance(action, SaveState)][-1]


def send(session: DeviceSession, number: int, name: str = "ping", *, now: datetime = NOW) -> list[Action]:
    return session.received(f"d/cam-1/cmd/{number}", render_command(Command(number, name, {}, LATER)), now)


def result_of(actions: list[Action]) -> CommandResult:
    (found,) = [action for action in actions if isinstance(action, Enqueue)]
    assert found.is_urgent
    return parse_result(found.payload)


def test_it_subscribes_to_its_own_commands_and_desired_state() -> None:
    assert new_session().connected() == [Subscribe(("d/cam-1/shadow/desired", "d/cam-1/cmd/+"))]


def test_it_reports_itself_once_subscribed() -> None:
    (report,) = new_session().subscribed()
    assert isinstance(report, Enqueue)
    assert report.topic == "d/cam-1/shadow/reported"
    assert parse_reported(report.payload).version == 0


def test_a_command_is_saved_before_it_runs() -> None:
    actions = send(new_session(), 5)
    assert [type(action) for action in actions] == [SaveState, RunCommand]


def test_a_repeated_command_does_not_run_twice_while_it_runs() -> None:
    session = new_session()
    send(session, 5)
    assert send(session, 5) == []


def test_a_repeated_command_gets_its_result_again() -> None:
    session = new_session()
    send(session, 5)
    first = result_of(session.command_finished(5, CommandResult(ok=True, output=1)))
    assert result_of(send(session, 5)) == first


def test_the_result_survives_a_restart() -> None:
    session = new_session()
    send(session, 5)
    saved = saved_by(session.command_finished(5, CommandResult(ok=True, output="pong")))
    assert result_of(send(new_session(saved), 5)).output == "pong"


def test_a_command_cut_off_by_a_restart_failed_and_does_not_run_again() -> None:
    saved = saved_by(send(new_session(), 5))
    assert not result_of(send(new_session(saved), 5)).ok


def test_a_reboot_that_restarted_us_succeeded() -> None:
    saved = saved_by(send(new_session(), 5, "reboot"))
    assert result_of(send(new_session(saved), 5, "reboot")).ok


def test_an_unknown_command_is_answered_with_an_error() -> None:
    assert "no command" in result_of(send(new_session(), 5, "format")).error


def test_a_command_that_comes_too_late_does_not_run() -> None:
    assert not result_of(send(new_session(), 5, now=LATER)).ok


def test_a_command_under_another_number_does_not_run() -> None:
    payload = render_command(Command(6, "ping", {}, LATER))
    assert not result_of(new_session().received("d/cam-1/cmd/5", payload, NOW)).ok


@pytest.mark.parametrize("topic", ["d/cam-2/cmd/5", "d/cam-1/t/x", "nonsense"])
def test_messages_for_others_are_refused(topic: str) -> None:
    with pytest.raises(InvalidInputError):
        new_session().received(topic, render_command(Command(5, "ping", {}, LATER)), NOW)


def test_desired_state_is_applied_once() -> None:
    session = new_session()
    payload = render_shadow(Desired(3, {"rate": 5}))
    (apply,) = session.received("d/cam-1/shadow/desired", payload, NOW)
    assert isinstance(apply, ApplyDesired)
    assert apply.delta == {"rate": 5}
    save, report = session.reported({"rate": 5}, desired_version=3)
    assert isinstance(save, SaveState)
    assert isinstance(report, Enqueue)
    assert parse_reported(report.payload).desired_version == 3
    assert session.received("d/cam-1/shadow/desired", payload, NOW) == []


def test_an_unchanged_state_is_not_reported_again() -> None:
    session = new_session()
    session.reported({"a": 1})
    assert session.reported({"a": 1}) == []


def test_versions_grow_across_restarts() -> None:
    session = new_session()
    saved = saved_by(session.reported({"a": 1}))
    again = new_session(saved)
    _, report = again.reported({"a": 2})
    assert isinstance(report, Enqueue)
    assert parse_reported(report.payload).version == 2


@given(st.binary(max_size=60) | st.dictionaries(st.text(), st.integers()).map(msgspec.json.encode))
def test_damaged_memory_starts_afresh(saved: bytes) -> None:
    assert new_session(saved).connected()


def test_old_results_are_forgotten_in_the_end() -> None:
    session = new_session()
    content = b""
    for number in range(400):
        send(session, number)
        content = saved_by(session.command_finished(number, CommandResult(ok=True)))
    assert len(msgspec.json.decode(content)["commands"]) == 256


def test_a_lost_connection_sends_everything_unacknowledged_again() -> None:
    window = OutboundWindow(max_in_flight=2)
    assert window.room() == 0
    window.connected()
    window.sent(10, packet=1)
    window.sent(11, packet=2)
    assert window.room() == 0
    assert window.acknowledged(1) == 10
    assert window.in_flight == {11}
    window.disconnected()
    assert window.in_flight == frozenset()
    window.connected()
    assert window.acknowledged(2) is None
    assert window.room() == 2


@given(st.integers(0, 2**32))
def test_backoff_spreads_between_nothing_and_its_ceiling(seed: int) -> None:
    backoff = Backoff(first_s=1, longest_s=8, seed=seed)
    for ceiling in (1, 2, 4, 8, 8, 8):
        assert 0 <= backoff.next_s() <= ceiling
    backoff.reset()
    assert backoff.next_s() <= 1
