"""Commands and shadows over both databases."""

from datetime import timedelta

import pytest

from fleetward.base.db import Database
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.base.events import list_events
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, DeviceState, Model
from fleetward.features.messaging import handlers, service
from fleetward.features.messaging.model import CommandRecord, CommandState
from fleetward.wire.command import CommandResult
from fleetward.wire.shadow import Reported
from support.clock import ManualClock

SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _device(db: Database) -> None:
    with db.write("operator:test") as tx:
        devices.add_model(tx, Model("sensor", attestation=AttestationPolicy.NONE))
        devices.register(tx, "cam-1", "sensor")
        devices.register(tx, "cam-2", "sensor")


def queue(db: Database, device: str = "cam-1", timeout_s: int = 30) -> CommandRecord:
    with db.write("operator:alice") as tx:
        return service.queue_command(tx, device, "ping", {"n": 1}, timeout_s)


def get(db: Database, number: int) -> CommandRecord:
    with db.read() as tx:
        return service.get_command(tx, "cam-1", number)


def answer(db: Database, number: int, *, ok: bool = True, device: str = "cam-1") -> bool:
    with db.write("system:messaging") as tx:
        result = CommandResult(ok=ok, output={"x": 1})
        return service.record_results(tx, [(device, number, result)]) == [(device, number)]


def test_a_queued_command_is_audited_told_and_waits(db: Database) -> None:
    command = queue(db)
    assert (command.state, command.actor) == (CommandState.QUEUED, "operator:alice")
    assert [one.id for one in handlers.commands_for(db, ["cam-1"])] == [command.id]
    with db.read() as tx:
        assert "command.queued" in {entry.action for entry, _ in audit.search(tx)}
        assert list_events(tx, device="cam-1")[-1].details == {"command": command.id, "name": "ping"}


def test_a_sent_command_is_sent_again_ever_later(db: Database, clock: ManualClock) -> None:
    command = queue(db, timeout_s=3600)
    gaps = []
    for _ in range(8):
        handlers.mark_sent(db, [get(db, command.id)])
        waited = 0
        while not handlers.due_commands(db, frozenset({"cam-1"})):
            clock.advance(SECOND)
            waited += 1
        gaps.append(waited)
    assert gaps == [1, 2, 4, 8, 16, 30, 30, 30]


def test_due_commands_of_absent_devices_stay(db: Database) -> None:
    queue(db)
    assert handlers.due_commands(db, frozenset({"cam-2"})) == []


@pytest.mark.parametrize(("ok", "state"), [(True, CommandState.DONE), (False, CommandState.FAILED)])
def test_a_result_closes_a_command_once(db: Database, *, ok: bool, state: CommandState) -> None:
    command = queue(db)
    assert answer(db, command.id, ok=ok)
    assert not answer(db, command.id, ok=not ok)
    closed = get(db, command.id)
    assert closed.state is state
    assert closed.result == CommandResult(ok=ok, output={"x": 1})
    assert handlers.commands_for(db, ["cam-1"]) == []


def test_another_device_cannot_close_a_command(db: Database) -> None:
    command = queue(db)
    assert not answer(db, command.id, device="cam-2")
    assert get(db, command.id).state is CommandState.QUEUED


def test_a_command_times_out_and_a_late_result_changes_nothing(db: Database, clock: ManualClock) -> None:
    command = queue(db, timeout_s=5)
    clock.advance(6 * SECOND)
    assert handlers.commands_for(db, ["cam-1"]) == []
    handlers.due_commands(db, frozenset())
    assert get(db, command.id).state is CommandState.TIMED_OUT
    assert not answer(db, command.id)
    assert get(db, command.id).result is None


def test_bad_commands_are_refused(db: Database) -> None:
    with db.write("operator:alice") as tx:
        for name, timeout_s in (("Ping", 5), ("rm -rf", 5), ("ping", 0), ("ping", 10**6)):
            with pytest.raises(InvalidInputError):
                service.queue_command(tx, "cam-1", name, {}, timeout_s)
        with pytest.raises(InvalidInputError):
            service.queue_command(tx, "cam-1", "ping", {"x": "y" * 20_000}, 5)
        with pytest.raises(NotFoundError):
            service.queue_command(tx, "nobody", "ping", {}, 5)


def test_a_device_whose_life_has_ended_takes_no_commands(db: Database) -> None:
    with db.write("operator:alice") as tx:
        devices.transition(tx, "cam-1", DeviceState.REVOKED, "stolen")
        with pytest.raises(ConflictError):
            service.queue_command(tx, "cam-1", "ping", {}, 5)


def test_only_so_many_commands_may_wait(db: Database) -> None:
    with db.write("operator:alice") as tx:
        for _ in range(100):
            service.queue_command(tx, "cam-1", "ping", {}, 5)
        with pytest.raises(ConflictError, match="waiting"):
            service.queue_command(tx, "cam-1", "ping", {}, 5)


def test_commands_are_listed_newest_first(db: Database) -> None:
    numbers = [queue(db).id for _ in range(3)]
    with db.read() as tx:
        assert [one.id for one in service.list_commands(tx, "cam-1", limit=2)] == numbers[:0:-1]
        with pytest.raises(NotFoundError):
            service.get_command(tx, "cam-2", numbers[0])


def test_a_shadow_begins_empty(db: Database) -> None:
    with db.read() as tx:
        shadow = service.get_shadow(tx, "cam-1")
        assert (shadow.desired_version, shadow.reported_version) == (0, 0)
        with pytest.raises(NotFoundError):
            service.get_shadow(tx, "nobody")


def test_desired_state_counts_its_versions_and_guards_them(db: Database) -> None:
    with db.write("operator:alice") as tx:
        assert service.set_desired(tx, "cam-1", {"a": 1}).desired_version == 1
        assert service.set_desired(tx, "cam-1", {"a": 2}, expected_version=1).desired_version == 2
        with pytest.raises(ConflictError):
            service.set_desired(tx, "cam-1", {"a": 3}, expected_version=1)
        assert service.get_shadow(tx, "cam-1").desired == {"a": 2}


def test_a_shadow_over_the_limits_is_refused(db: Database) -> None:
    deep: dict[str, object] = {}
    for _ in range(9):
        deep = {"a": deep}
    with db.write("operator:alice") as tx:
        for state in ({"a": "x" * 40_000}, deep):
            with pytest.raises(InvalidInputError):
                service.set_desired(tx, "cam-1", state)


def test_old_and_repeated_reports_change_nothing(db: Database) -> None:
    with db.write("system:messaging") as tx:
        for version, state in ((2, {"b": 2}), (1, {"a": 1}), (2, {"c": 3})):
            service.record_reported(tx, "cam-1", [(Reported(version, state), tx.now)])
        assert service.get_shadow(tx, "cam-1").reported == {"b": 2}


def test_a_device_that_lost_its_memory_counts_afresh(db: Database) -> None:
    with db.write("system:messaging") as tx:
        for version in (7, 0, 1):
            service.record_reported(tx, "cam-1", [(Reported(version, {"v": version}), tx.now)])
        assert service.get_shadow(tx, "cam-1").reported == {"v": 1}
        assert service.record_reported(tx, "nobody", [(Reported(1, {}), tx.now)]) is None


def test_desired_state_is_sent_until_the_device_has_acted_on_it(db: Database) -> None:
    with db.write("operator:alice") as tx:
        service.set_desired(tx, "cam-1", {"a": 1})
    assert [shadow.device for shadow in handlers.desired_of(db, ["cam-1", "cam-2"])] == ["cam-1"]
    with db.write("system:messaging") as tx:
        service.record_reported(tx, "cam-1", [(Reported(1, {"a": 1}, desired_version=1), tx.now)])
    assert handlers.desired_of(db, ["cam-1", "cam-2"]) == []
