"""A feature's door opens the intake too: its stage is run, and devices may tell what it lets them tell."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from fleetward.base.events import Severity
from fleetward.base.feature import About, EventKind, Feature
from fleetward.features.messaging.intake.batch import Batch, Refused
from fleetward.programs.server.build import parts_of
from fleetward.programs.server.doors import DOORS
from fleetward.wire.telemetry import Reading
from support.broker import Rig, wait_for
from support.raw_mqtt import RawDevice

_SECRET = "the berth of the king"


def hide_secrets(batch: Batch, _now: datetime) -> Batch:
    """Refuse one reading, and round the others."""
    kept, refused = [], list(batch.refused)
    for item in batch.items:
        match item.value:
            case Reading(value=str() as text) if text == _SECRET:
                refused.append(Refused(item.message, "it is secret"))
            case Reading(value=float() as number):
                kept.append(replace(item, value=Reading(round(number))))
            case _:
                kept.append(item)
    return Batch(tuple(kept), tuple(refused))


def double(batch: Batch, _now: datetime) -> Batch:
    """Stands behind the other, and sees what it made."""
    return Batch(
        tuple(
            replace(item, value=Reading(item.value.value * 2))
            if isinstance(item.value, Reading) and isinstance(item.value.value, int)
            else item
            for item in batch.items
        ),
        batch.refused,
    )


HARBOUR = Feature(
    name="harbour",
    events=(
        EventKind("harbour.flooded", Severity.WARNING, About.DEVICE, "water", may_device_say=True),
        EventKind("harbour.closed", Severity.WARNING, About.DEVICE, "nobody but us says so"),
    ),
    stages=(hide_secrets, double),
)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, doors=(*DOORS, HARBOUR))
    rig.start()
    yield rig
    rig.close()


def test_its_stages_are_run_in_their_order_and_its_events_told_by_devices(rig: Rig) -> None:
    device = rig.enroll("buoy-1")
    with RawDevice(rig, device) as buoy:
        buoy.publish("t/height", [b"1.6", b'"%s"' % _SECRET.encode(), b'"calm"'])
        buoy.publish("log", [b'{"event": "harbour.%s"}' % one for one in (b"closed", b"flooded")])
    archive = rig.messaging.archive
    wait_for(lambda: len(archive.read_last("buoy-1", "log", "", 10)) == 2)
    assert [one.value for one in archive.read_last("buoy-1", "telemetry", "height", 10)] == [4, "calm"]
    assert "it is secret" in rig.wait_for_event("telemetry.refused", "buoy-1").message
    assert rig.wait_for_event("harbour.flooded", "buoy-1").severity is Severity.WARNING
    assert rig.events("harbour.closed") == []


def test_without_its_door_nothing_of_it_is_run() -> None:
    assert parts_of(DOORS).stages == ()
    assert parts_of((HARBOUR,)).stages == (hide_secrets, double)
    assert parts_of((*DOORS, HARBOUR)).told_kinds - parts_of(DOORS).told_kinds == {"harbour.flooded"}
    assert "boot.refused" in parts_of(DOORS).told_kinds
    assert "device.ended" not in parts_of(DOORS).told_kinds
