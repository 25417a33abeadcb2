"""Acting on many: the preview says exactly what happens, and what cannot happen is said too."""

from pathlib import Path

import pytest

from fleetward.base.db import Database
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import DeviceState, Selection
from fleetward.features.messaging import service as messaging
from fleetward.features.messaging.service.commands import MAX_OPEN_COMMANDS
from fleetward.features.overview.model.bulk import MAX_DEVICES, BulkAction, Plan
from fleetward.features.overview.service import bulk, filters
from fleetward.features.overview.service.bulk import BulkCommand, BulkRequest
from support.clock import ManualClock
from support.overview import CAMERA, SENSOR, Fleet, make_fleet

PING = BulkCommand("ping")


@pytest.fixture
def fleet(tmp_path: Path, db: Database, clock: ManualClock) -> Fleet:
    """Two devices in each state of life, in two groups."""
    fleet = make_fleet(tmp_path, db, clock)
    for number, group in ((1, "east"), (2, "west")):
        fleet.add(f"registered-{number}", group=group)
        fleet.enroll(f"enrolled-{number}", CAMERA, group=group)
        for state in ("active", "quarantined", "revoked", "retired"):
            device = f"{state}-{number}"
            fleet.enroll(device, SENSOR, group=group)
            with db.write("operator:bob") as tx:
                if state == "quarantined":
                    devices.transition(tx, device, DeviceState.QUARANTINED, "odd")
                elif state != "active":
                    devices.end(tx, device, DeviceState(state), "done")
    return fleet


def add_busy_device(fleet: Fleet) -> None:
    fleet.enroll("busy-1", SENSOR, group="east")
    with fleet.db.write("operator:bob") as tx:
        for _ in range(MAX_OPEN_COMMANDS):
            messaging.queue_command(tx, "busy-1", "ping", {}, 60)


def request(
    action: BulkAction, target: Selection | list[str] | None = None, **more: frozenset[str]
) -> BulkRequest:
    command = PING if action is BulkAction.COMMAND else None
    return BulkRequest(action, Selection() if target is None else target, "in bulk", command=command, **more)


def preview(fleet: Fleet, wanted: BulkRequest) -> Plan:
    with fleet.db.read() as tx:
        return bulk.plan(tx, wanted)


def snapshot(fleet: Fleet) -> dict[str, tuple[DeviceState, int]]:
    """Return each device's state and how many commands it was given."""
    with fleet.db.read() as tx:
        return {
            one.id: (one.state, len(messaging.list_commands(tx, one.id, limit=1000)))
            for one in devices.list_devices(tx)
        }


@pytest.mark.parametrize("action", list(BulkAction))
def test_the_preview_is_the_effect(fleet: Fleet, action: BulkAction) -> None:
    if action is BulkAction.COMMAND:
        add_busy_device(fleet)
    before = snapshot(fleet)
    planned = preview(fleet, request(action))
    assert snapshot(fleet) == before, "a preview changes nothing"
    done = bulk.apply(fleet.db, "operator:bob", request(action), expected=len(planned.will_change))
    after = snapshot(fleet)
    changed = {device for device in before if before[device] != after[device]}
    assert changed == set(planned.will_change) == set(done.will_change)
    assert changed, "the fleet has a device for each action"
    assert done.skipped == planned.skipped
    assert done.matching == len(before)


def test_every_skipped_device_says_why(fleet: Fleet) -> None:
    why = {one.id: one.why for one in preview(fleet, request(BulkAction.RELEASE)).skipped}
    assert why["active-1"] == "it is active, not quarantined"
    why = {one.id: one.why for one in preview(fleet, request(BulkAction.QUARANTINE)).skipped}
    assert why["quarantined-1"] == "it is quarantined already"
    assert why["revoked-2"] == "it is revoked and cannot become quarantined"
    add_busy_device(fleet)
    why = {one.id: one.why for one in preview(fleet, request(BulkAction.COMMAND)).skipped}
    assert why["busy-1"] == "too many commands wait for it already"


def test_revoking_in_bulk_ends_the_certificates_too(fleet: Fleet) -> None:
    bulk.apply(fleet.db, "operator:bob", request(BulkAction.REVOKE, ["active-1"]))
    with fleet.db.read() as tx:
        entries = [(entry.action, entry.actor) for entry, _ in audit.search(tx, subject="device:active-1")]
        assert entries[-2:] == [("device.revoked", "operator:bob"), ("certificate.revoked", "operator:bob")]
        framed = [entry.action for entry, _ in audit.search(tx, subject="bulk:revoke")]
    assert framed == ["bulk.begun", "bulk.finished"]


def test_an_unknown_id_and_one_of_an_unseen_group_are_skipped_alike(fleet: Fleet) -> None:
    wanted = request(BulkAction.QUARANTINE, ["active-1", "active-2", "ghost"], visible=frozenset({"east"}))
    planned = preview(fleet, wanted)
    assert planned.will_change == ("active-1",)
    assert {(one.id, one.why) for one in planned.skipped} == {
        ("active-2", "no such device"), ("ghost", "no such device"),
    }  # fmt: skip


def test_what_one_sees_and_may_not_change_is_skipped(fleet: Fleet) -> None:
    wanted = request(BulkAction.QUARANTINE, Selection(state=DeviceState.ACTIVE), groups=frozenset({"east"}))
    done = bulk.apply(fleet.db, "operator:bob", wanted)
    assert done.will_change == ("active-1",)
    assert [(one.id, one.why) for one in done.skipped] == [
        ("active-2", "you may not quarantine devices of group west")
    ]


def test_nothing_happens_when_the_fleet_is_not_as_it_was_shown(fleet: Fleet) -> None:
    before = snapshot(fleet)
    with pytest.raises(ConflictError, match="expected 7"):
        bulk.apply(fleet.db, "operator:bob", request(BulkAction.QUARANTINE), expected=7)
    assert snapshot(fleet) == before


def test_too_many_devices_are_refused_whole(fleet: Fleet) -> None:
    ids = [f"x{number}" for number in range(MAX_DEVICES + 1)]
    with pytest.raises(InvalidInputError, match="Narrow the filter"):
        preview(fleet, request(BulkAction.QUARANTINE, ids))


def test_a_bad_command_is_refused_before_anything(fleet: Fleet) -> None:
    for command in (BulkCommand("Rm -rf"), BulkCommand("ping", timeout_s=0), None):
        wanted = BulkRequest(BulkAction.COMMAND, ["active-1"], "test", command=command)
        with pytest.raises(InvalidInputError):
            preview(fleet, wanted)


def test_filters_are_each_operators_own(db: Database) -> None:
    with db.write("operator:ann") as tx:
        saved = filters.save_filter(tx, "cold ones", {"state": "quarantined", "model": "", "firmware": ""})
        assert saved.filter == {"state": "quarantined", "firmware": ""}
        assert filters.list_filters(tx, "operator:ann") == [saved]
        assert filters.list_filters(tx, "operator:bob") == []
    with pytest.raises(ConflictError), db.write("operator:ann") as tx:
        filters.save_filter(tx, "cold ones", {})
    with pytest.raises(NotFoundError), db.write("operator:bob") as tx:
        filters.delete_filter(tx, saved.id)
    with db.write("operator:ann") as tx:
        filters.delete_filter(tx, saved.id)
        assert filters.list_filters(tx, "operator:ann") == []


@pytest.mark.parametrize(
    "given", [{"colour": "red"}, {"state": "happy"}, {"sort": "price"}, {"search": "x" * 65}]
)
def test_a_filter_the_list_would_refuse_is_not_saved(db: Database, given: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError), db.write("operator:ann") as tx:
        filters.save_filter(tx, "mine", given)
