"""What the update machine decides: a case for every branch and boundary."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetward.features.updates.boot.pointer import BootPointer, Failure, Slot, Trial
from fleetward.features.updates.boot.record import BootRecord, BootRefusal
from fleetward.features.updates.boot.selection import Refusal
from fleetward.features.updates.device import messages as m
from fleetward.features.updates.device.machine import UpdateMachine
from fleetward.features.updates.device.memory import (
    MAX_MEMORY_BYTES,
    Candidate,
    ImageTarget,
    Memory,
    RefusedRelease,
    Settings,
    parse_memory,
    render_memory,
)
from support.firmware import MODEL, PINNED, STRANGER, digest_of, make_envelope, make_manifest

SETTINGS = Settings(MODEL, PINNED, poll_interval_s=1000.0, trial_timeout_s=300.0, spread=0.5)
OLD, NEW, NEWER = (make_envelope(counter, image=b"image %d" % counter) for counter in (5, 6, 7))
RUNNING = BootRecord(
    boot_id="b1", slot=Slot.A, version="1.5.0", security_counter=5, manifest_sha256=digest_of(OLD)
)
ALONE = BootRecord(boot_id="b1")
START_S = 100.0
ON_A = BootPointer(Slot.A)


def target(counter: int = 6) -> ImageTarget:
    manifest = make_manifest(counter, image=b"image %d" % counter)
    return ImageTarget(f"{MODEL}/{manifest.version}/image", manifest.sha256, "0" * 128, manifest.length)


CANDIDATE = Candidate(NEW, target(), "1.6.0", 6)


class Rig:
    """A machine, its clock and what it said; its words without reports and saves are what tests ask about."""

    def __init__(self, memory: Memory | None = None, settings: Settings = SETTINGS) -> None:
        self.machine = UpdateMachine(settings, None if memory is None else render_memory(memory))
        self.now_s = START_S
        self.reports: list[m.Report] = []
        self.memory = memory or Memory()

    def take(self, event: m.Event, *, after_s: float = 0.0) -> list[m.Command]:
        self.now_s += after_s
        found: list[m.Command] = []
        for command in self.machine.handle(event, self.now_s):
            if isinstance(command, m.Report):
                self.reports.append(command)
            elif isinstance(command, m.Save):
                self.memory = parse_memory(command.content)
            else:
                found.append(command)
        return found

    def start(
        self,
        record: BootRecord = RUNNING,
        pointer: BootPointer | None = ON_A,
        counter: int = 5,
    ) -> list[m.Command]:
        return self.take(m.Started(record, pointer, counter))

    @property
    def rest(self) -> tuple[str, float | None]:
        """Where it stands, and in how many seconds it wants to be woken."""
        wake_at_s = self.machine.wake_at_s
        return self.machine.phase.value, None if wake_at_s is None else wake_at_s - self.now_s

    @property
    def phase(self) -> str:
        return self.rest[0]

    @property
    def wake_in_s(self) -> float | None:
        return self.rest[1]


def idle(record: BootRecord = RUNNING, *, counter: int = 5, memory: Memory | None = None) -> Rig:
    """Return a machine that asked for the first check."""
    rig = Rig(memory)
    rig.start(record, BootPointer(record.slot or Slot.A), counter)
    assert rig.take(m.Tick()) == [m.Check()]
    assert rig.phase == "checking"
    return rig


def downloading() -> Rig:
    rig = idle()
    assert rig.take(m.Offered(NEW)) == [m.Discard(), m.Locate("1.6.0")]
    assert rig.take(m.Located(target())) == [m.Download(CANDIDATE)]
    assert (rig.phase, rig.memory.candidate) == ("downloading", CANDIDATE)
    return rig


def on_trial(pointer: BootPointer | None = None) -> Rig:
    record = msgspec.structs.replace(
        RUNNING,
        slot=Slot.B,
        version="1.6.0",
        security_counter=6,
        manifest_sha256=digest_of(NEW),
        is_trial=True,
    )
    rig = Rig(Memory(candidate=CANDIDATE, told_boot="b1"))
    assert rig.start(record, pointer or BootPointer(Slot.A, Trial(Slot.B, 2, digest_of(NEW)))) == []
    assert rig.rest == ("trial", 300.0)
    return rig


def told(commands: list[m.Command]) -> list[tuple[str, str]]:
    return [(one.kind, one.severity) for one in commands if isinstance(one, m.Tell)]


def test_a_device_that_runs_checks_at_once_and_then_after_its_pause() -> None:
    rig = Rig()
    assert rig.start() == []
    assert rig.rest == ("idle", 0.0)
    assert rig.take(m.Tick()) == [m.Check()]
    assert rig.wake_in_s is None
    assert rig.take(m.Offered(None)) == []
    assert rig.rest == ("idle", 1000.0)
    assert rig.take(m.Tick(), after_s=999.0) == []
    assert rig.take(m.Tick(), after_s=1.0) == [m.Check()]


@pytest.mark.parametrize(("spread", "pause_s"), [(0.0, 900.0), (0.5, 1000.0), (1.0, 1100.0)])
def test_a_fleet_does_not_ask_all_at_once(spread: float, pause_s: float) -> None:
    assert replace(SETTINGS, spread=spread).pause_s == pytest.approx(pause_s)


def test_what_is_saved_is_not_saved_again() -> None:
    machine = UpdateMachine(SETTINGS, render_memory(Memory(told_boot="b1")))
    commands = machine.handle(m.Started(RUNNING, ON_A, 5), START_S)
    assert [type(one) for one in commands] == [m.Report]
    kept = machine.handle(m.Started(RUNNING, ON_A, 5), START_S)
    assert kept == []


def test_the_platform_can_ask_for_a_check() -> None:
    rig = idle()
    rig.take(m.Offered(None))
    assert rig.take(m.CheckAsked()) == [m.Check()]
    assert rig.take(m.CheckAsked()) == [], "one at a time"


def test_the_running_release_is_nothing_new() -> None:
    rig = idle()
    assert rig.take(m.Offered(OLD)) == []
    assert (rig.phase, rig.wake_in_s, rig.reports[-1].error) == ("idle", 1000.0, "")


@pytest.mark.parametrize(
    ("running", "floor", "offered", "is_taken"),
    [
        (5, 5, 6, True), (5, 5, 5, False), (5, 5, 4, False),
        (5, 7, 6, False), (5, 6, 6, True), (5, 6, 7, True),
        (None, 5, 4, False), (None, 5, 5, True), (None, 5, 6, True),
    ],
)  # fmt: skip
def test_a_device_goes_only_forward(running: int | None, floor: int, offered: int, *, is_taken: bool) -> None:
    """Above what runs and not below the floor; where nothing runs, the floor alone decides."""
    record = ALONE if running is None else msgspec.structs.replace(RUNNING, security_counter=running)
    rig = idle(record, counter=floor)
    taken = rig.take(m.Offered(make_envelope(offered, image=b"other", version="9")))
    assert taken == ([m.Discard(), m.Locate("9")] if is_taken else [])
    assert rig.phase == ("checking" if is_taken else "idle")
    assert rig.memory.refused == (), "an old release is no refused one: it may be the right one later"


def test_a_release_of_a_stranger_is_refused_for_good_and_told_once() -> None:
    envelope = make_envelope(6, signer=STRANGER)
    rig = idle()
    [tell] = rig.take(m.Offered(envelope))
    assert isinstance(tell, m.Tell)
    assert (tell.kind, tell.severity) == ("update.refused", "critical")
    assert tell.details["manifest_sha256"] == digest_of(envelope)
    assert tell.message.startswith("An offered firmware was refused: firmware manifest: expected signatures")
    assert tell.details["reason"] == rig.reports[-1].error == tell.message.split(": ", 1)[1]
    assert rig.rest == ("idle", 1000.0)
    assert [one.manifest_sha256 for one in rig.memory.refused] == [digest_of(envelope)]
    again = idle(memory=rig.memory)
    assert again.take(m.Offered(envelope)) == []
    assert again.phase == "idle"


def test_a_release_for_another_model_is_refused() -> None:
    rig = idle()
    commands = rig.take(m.Offered(make_envelope(6, model="camera-2")))
    assert told(commands) == [("update.refused", "critical")]
    assert rig.reports[-1].error == "firmware 1.6.0: expected it for camera-1, found it for camera-2"


@pytest.mark.parametrize("changed", [{"sha256": "f" * 64}, {"length": 6}, {"length": 8}])
def test_tuf_and_the_manifest_must_name_the_same_image(changed: dict[str, Any]) -> None:
    """Two signatures of two keys: where they differ, one of them is in a thief's hands."""
    rig = idle()
    rig.take(m.Offered(NEW))
    commands = rig.take(m.Located(msgspec.structs.replace(target(), **changed)))
    assert told(commands) == [("update.refused", "critical")]
    assert (rig.phase, rig.memory.candidate) == ("idle", None)
    assert rig.reports[-1].error == "image of 1.6.0: expected what the manifest names, found another in TUF"


def test_an_image_that_tuf_does_not_know_is_looked_for_again() -> None:
    rig = idle()
    rig.take(m.Offered(NEW))
    commands = rig.take(m.Located(None))
    assert told(commands) == [("update.failed", "warning")]
    assert rig.reports[-1].error == "update metadata: expected the image of the current release, found none"
    assert rig.rest == ("idle", 5.0)
    assert rig.take(m.Tick(), after_s=5.0) == [m.Check()]
    assert rig.take(m.Located(target())) != [], "the manifest of the last offer is still verified"


def test_an_image_is_located_only_after_a_manifest() -> None:
    rig = idle()
    assert told(rig.take(m.Located(target()))) == [("update.failed", "warning")]


def test_a_download_goes_on_and_tells_how_far() -> None:
    rig = downloading()
    assert rig.reports[-1].progress == 0
    assert rig.take(m.Progressed(target().length)) == [m.Download(CANDIDATE)]
    assert rig.take(m.Downloaded()) == [m.Verify(CANDIDATE)]
    last = rig.reports.pop()
    assert (last.state, last.progress) == ("verifying", None)


@pytest.mark.parametrize(
    ("received", "percent"),
    [(0, 0), (49, 0), (50, 5), (99, 5), (100, 10), (949, 90), (950, 95), (999, 95), (1000, 100), (1200, 100)],
)
def test_progress_is_told_in_steps_of_five_percent(received: int, percent: int) -> None:
    rig = Rig(Memory(candidate=Candidate(NEW, msgspec.structs.replace(target(), length=1000), "1.6.0", 6)))
    rig.start()
    rig.take(m.Progressed(received))
    found = rig.reports[-1].progress
    assert (found, type(found)) == (percent, int)


@pytest.mark.parametrize(("slot", "other"), [(Slot.A, Slot.B), (Slot.B, Slot.A)])
def test_the_slot_that_does_not_run_is_written_then_tried(slot: Slot, other: Slot) -> None:
    rig = idle(msgspec.structs.replace(RUNNING, slot=slot))
    rig.take(m.Offered(NEW))
    rig.take(m.Located(target()))
    rig.take(m.Downloaded())
    assert rig.take(m.Verified()) == [m.Write(CANDIDATE, other)]
    assert rig.phase == "writing"
    assert rig.take(m.Written()) == [m.Switch(other, digest_of(NEW))]
    assert rig.phase == "switching"
    tell, reboot = rig.take(m.Switched())
    assert tell == m.Tell(
        "update.installed", "info", "Firmware 1.6.0 was installed and goes on trial.", {"version": "1.6.0"}
    )
    assert reboot == m.Reboot("to try firmware 1.6.0")
    assert rig.rest == ("rebooting", 60.0)
    assert rig.take(m.Tick(), after_s=59.0) == []
    assert rig.take(m.Tick(), after_s=1.0) == [m.Reboot("asked for before")]


@pytest.mark.parametrize(
    ("pointer", "slot"), [(None, Slot.B), (BootPointer(Slot.A), Slot.B), (BootPointer(Slot.B), Slot.A)]
)
def test_where_nothing_runs_the_slot_that_is_not_active_is_written(
    pointer: BootPointer | None, slot: Slot
) -> None:
    rig = Rig(Memory(candidate=CANDIDATE))
    assert rig.start(ALONE, pointer) == [m.Download(CANDIDATE)]
    rig.take(m.Downloaded())
    assert rig.take(m.Verified()) == [m.Write(CANDIDATE, slot)]


def test_a_broken_connection_is_no_event_and_tried_again_in_growing_pauses() -> None:
    rig = downloading()
    pauses = []
    for _ in range(12):
        assert rig.take(m.DownloadFailed("gone", m.Trouble.NETWORK)) == []
        assert rig.reports[-1].error == "gone"
        pauses.append(rig.wake_in_s)
        rig.take(m.Tick(), after_s=rig.wake_in_s or 0.0)
        assert rig.take(m.Offered(NEW)) == [m.Download(CANDIDATE)], "what came so far is kept"
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 1000]


@pytest.mark.parametrize(("poll_s", "longest_s"), [(1.0, 5.0), (100_000.0, 3600.0)])
def test_pauses_have_a_floor_and_a_ceiling(poll_s: float, longest_s: float) -> None:
    rig = Rig(settings=replace(SETTINGS, poll_interval_s=poll_s))
    rig.start()
    for _ in range(40):
        rig.take(m.Tick(), after_s=rig.wake_in_s or 0.0)
        assert rig.take(m.CheckFailed("out of reach")) == []
    assert (rig.wake_in_s, rig.reports[-1].error) == (longest_s, "out of reach")


def test_what_went_well_ends_the_growing_of_pauses() -> None:
    rig = idle()
    for _ in range(4):
        rig.take(m.CheckFailed("out of reach"))
        rig.take(m.Tick(), after_s=rig.wake_in_s or 0.0)
    rig.take(m.Offered(None))
    assert rig.reports[-1].error == ""
    rig.take(m.Tick(), after_s=1000.0)
    rig.take(m.CheckFailed("out of reach"))
    assert rig.wake_in_s == 5.0


def test_metadata_that_must_not_be_believed_is_told_once_until_something_goes_well() -> None:
    rig = idle()
    assert told(rig.take(m.CheckFailed("rolled back", is_refusal=True))) == [("update.refused", "critical")]
    rig.take(m.Tick(), after_s=5.0)
    assert rig.take(m.CheckFailed("rolled back", is_refusal=True)) == []
    rig.take(m.Tick(), after_s=10.0)
    [other] = rig.take(m.CheckFailed("frozen", is_refusal=True))
    assert other == m.Tell(
        "update.refused", "critical", "An update did not go on: frozen", {"reason": "frozen"}
    )
    rig.take(m.Tick(), after_s=20.0)
    rig.take(m.Offered(None))
    rig.take(m.Tick(), after_s=1000.0)
    assert told(rig.take(m.CheckFailed("frozen", is_refusal=True))) == [("update.refused", "critical")]


def test_a_long_trouble_is_told_once_too() -> None:
    rig = idle()
    assert len(rig.take(m.CheckFailed("x" * 900, is_refusal=True))) == 1
    assert rig.memory.told == "x" * 500
    rig.take(m.Tick(), after_s=5.0)
    assert rig.take(m.CheckFailed("x" * 900, is_refusal=True)) == []


def test_a_refused_release_is_no_sign_that_all_is_well() -> None:
    rig = idle()
    rig.take(m.CheckFailed("rolled back", is_refusal=True))
    rig.take(m.Tick(), after_s=5.0)
    rig.take(m.Offered(make_envelope(6, signer=STRANGER)))
    assert rig.memory.told == "rolled back"


def test_an_old_release_is_a_sign_that_all_is_well() -> None:
    rig = idle()
    rig.take(m.CheckFailed("rolled back", is_refusal=True))
    rig.take(m.Tick(), after_s=5.0)
    rig.take(m.Offered(make_envelope(4)))
    assert (rig.memory.told, rig.reports[-1].error) == ("", "")


def test_a_full_disk_is_freed_told_and_given_time() -> None:
    rig = downloading()
    discard, tell = rig.take(m.DownloadFailed("no room", m.Trouble.DISK_FULL))
    assert discard == m.Discard()
    assert told([tell]) == [("update.failed", "warning")]
    assert rig.rest == ("idle", 1000.0)
    quick = Rig(Memory(candidate=CANDIDATE), replace(SETTINGS, poll_interval_s=60.0))
    quick.start()
    quick.take(m.DownloadFailed("no room", m.Trouble.DISK_FULL))
    assert quick.wake_in_s == 900.0


@pytest.mark.parametrize(
    "event", [m.DownloadFailed("digests", m.Trouble.MISMATCH), m.VerifyFailed("digests")]
)
def test_another_image_than_promised_is_thrown_away_and_told(event: m.Event) -> None:
    rig = downloading()
    if isinstance(event, m.VerifyFailed):
        rig.take(m.Downloaded())
    discard, tell = rig.take(event)
    assert discard == m.Discard()
    assert told([tell]) == [("update.refused", "critical")]
    assert (rig.phase, rig.wake_in_s, rig.memory.candidate) == ("idle", 5.0, CANDIDATE)


def test_a_slot_that_cannot_be_written_is_tried_again() -> None:
    ways: list[list[m.Event]] = [[m.Downloaded(), m.Verified()], [m.Downloaded(), m.Verified(), m.Written()]]
    for before in ways:
        rig = downloading()
        for event in before:
            rig.take(event)
        assert told(rig.take(m.WriteFailed("slot: full"))) == [("update.failed", "warning")]
        assert rig.rest == ("idle", 5.0)


def test_health_confirms_a_trial_and_only_then_the_floor_moves() -> None:
    rig = on_trial()
    assert rig.take(m.HealthReported(is_healthy=True)) == [m.Confirm(6)]
    assert rig.rest == ("confirming", None)
    discard, tell = rig.take(m.Confirmed())
    assert discard == m.Discard()
    assert tell == m.Tell(
        "update.confirmed", "notice", "Firmware 1.6.0 proved its health and is confirmed.",
        {"version": "1.6.0", "security_counter": 6},
    )  # fmt: skip
    assert (rig.phase, rig.wake_in_s, rig.memory.candidate) == ("idle", 1000.0, None)
    rig.take(m.Tick(), after_s=1000.0)
    assert rig.take(m.Offered(make_envelope(6, image=b"other"))) == []


@pytest.mark.parametrize(
    ("reason", "given"), [("the lens", "the lens"), ("", "the application says it is not well")]
)
def test_bad_health_rolls_back(reason: str, given: str) -> None:
    rig = on_trial()
    assert rig.take(m.HealthReported(is_healthy=False, reason=reason)) == [m.RollBack(given)]
    assert rig.phase == "rolling_back"
    assert rig.take(m.RolledBack()) == [m.Reboot("to return to the firmware that works")]
    assert rig.phase == "rebooting"


def test_a_silent_trial_ends_in_time() -> None:
    rig = on_trial()
    assert rig.take(m.Tick(), after_s=299.0) == []
    assert rig.take(m.Tick(), after_s=1.0) == [m.RollBack("it did not prove its health within 300 s")]


def test_a_confirmation_that_cannot_be_written_waits_for_the_next_sign_of_health() -> None:
    rig = on_trial()
    rig.take(m.HealthReported(is_healthy=True))
    assert rig.take(m.WriteFailed("the chip does not answer"), after_s=7.0) == []
    assert rig.rest == ("trial", 300.0)
    assert rig.reports[-1].error == "the chip does not answer"
    assert rig.take(m.HealthReported(is_healthy=True)) == [m.Confirm(6)]
    rig.take(m.Confirmed())
    assert rig.reports[-1].error == ""


def test_a_rollback_that_cannot_be_written_reboots_all_the_same() -> None:
    rig = on_trial()
    rig.take(m.HealthReported(is_healthy=False))
    assert rig.take(m.WriteFailed("disk")) == [m.Reboot("to return to the firmware that works")]
    assert (rig.phase, rig.reports[-1].error) == ("rebooting", "disk")


@pytest.mark.parametrize(
    ("is_trial", "digest"), [(False, digest_of(NEW)), (True, digest_of(NEWER)), (False, digest_of(OLD))]
)
def test_a_trial_that_was_not_started_asks_for_its_start(*, is_trial: bool, digest: str) -> None:
    record = msgspec.structs.replace(RUNNING, is_trial=is_trial, manifest_sha256=digest)
    rig = Rig(Memory(candidate=CANDIDATE))
    commands = rig.start(record, BootPointer(Slot.A, Trial(Slot.B, 2, digest_of(NEW))))
    assert commands == [m.Reboot("to start the firmware put on trial")]
    assert rig.rest == ("rebooting", 60.0)


@pytest.mark.parametrize(("floor", "moves"), [(4, True), (5, False), (6, False)])
def test_a_kill_after_confirmation_is_finished(floor: int, *, moves: bool) -> None:
    rig = Rig(Memory(candidate=Candidate(OLD, target(5), "1.5.0", 5)))
    commands = rig.start(counter=floor)
    assert commands[:1] == ([m.AdvanceCounter(5)] if moves else [m.Discard()])
    assert told(commands) == [("update.confirmed", "notice")]
    assert (rig.phase, rig.memory.candidate) == ("idle", None)


def test_a_download_under_way_goes_on_after_a_restart() -> None:
    rig = Rig(Memory(candidate=CANDIDATE))
    assert rig.start() == [m.Download(CANDIDATE)]
    assert rig.phase == "downloading"


def test_another_release_than_the_one_under_way_begins_anew() -> None:
    rig = downloading()
    rig.take(m.DownloadFailed("gone", m.Trouble.NETWORK))
    rig.take(m.Tick(), after_s=5.0)
    assert rig.take(m.Offered(NEWER)) == [m.Discard(), m.Locate("1.7.0")]
    assert rig.memory.candidate is None


def test_firmware_that_failed_its_trial_is_told_once_and_never_tried_again() -> None:
    pointer = BootPointer(Slot.A, None, Failure(digest_of(NEW), "it crashed"))
    rig = Rig(Memory(candidate=CANDIDATE))
    discard, tell = rig.start(pointer=pointer)
    assert discard == m.Discard()
    assert tell == m.Tell(
        "update.rolled_back", "critical", "Firmware 1.6.0 was rolled back to 1.5.0: it crashed",
        {"version": "1.6.0", "running": "1.5.0", "reason": "it crashed"},
    )  # fmt: skip
    assert rig.reports[-1].error == "firmware 1.6.0 was rolled back: it crashed"
    assert rig.memory.candidate is None
    assert rig.memory.refused == (RefusedRelease(digest_of(NEW), "it crashed"),)
    rig.take(m.Tick())
    assert rig.take(m.Offered(NEW)) == []
    again = Rig(rig.memory)
    assert again.start(pointer=pointer) == []
    again.take(m.Tick())
    assert again.take(m.Offered(NEW)) == []
    assert again.take(m.Tick(), after_s=1000.0) == [m.Check()]
    assert again.take(m.Offered(NEWER)) == [m.Discard(), m.Locate("1.7.0")]


def test_a_failure_is_known_to_the_pointer_where_the_memory_is_lost() -> None:
    rig = Rig()
    [tell] = rig.start(pointer=BootPointer(Slot.A, None, Failure(digest_of(NEW), "it crashed")))
    assert isinstance(tell, m.Tell)
    assert tell.details["version"] == "unknown"
    rig.take(m.Tick())
    assert rig.take(m.Offered(NEW)) == []


def test_a_failure_of_other_firmware_leaves_the_candidate() -> None:
    rig = Rig(Memory(candidate=CANDIDATE))
    commands = rig.start(pointer=BootPointer(Slot.A, None, Failure("f" * 64, "it crashed")))
    assert told(commands) == [("update.rolled_back", "critical")]
    assert commands[-1] == m.Download(CANDIDATE)


def test_what_the_boot_stage_refused_is_told_once_a_start() -> None:
    refused = (
        BootRefusal(Slot.A, Refusal.EMPTY, "slot a: expected firmware, found none"),
        BootRefusal(Slot.B, Refusal.ROLLED_BACK, "slot b: expected more, found less"),
    )
    rig = Rig()
    assert rig.start(msgspec.structs.replace(RUNNING, refused=refused)) == [
        m.Tell(
            "boot.refused", "critical", "The boot stage refused slot b: expected more, found less.",
            {"slot": "b", "reason": "rolled_back", "running": "1.5.0"},
        )
    ]  # fmt: skip
    again = Rig(rig.memory)
    assert again.start(msgspec.structs.replace(RUNNING, refused=refused)) == []
    alone = Rig()
    assert len(alone.start(BootRecord(boot_id="b2", refused=refused))) == 2, "an empty slot is news here"


def test_events_out_of_turn_change_nothing() -> None:
    events: list[m.Event] = [
        m.Offered(NEW), m.Located(target()), m.CheckFailed("x"), m.Progressed(1), m.Downloaded(),
        m.DownloadFailed("x", m.Trouble.NETWORK), m.Verified(), m.VerifyFailed("x"), m.Written(),
        m.WriteFailed("x"), m.Switched(), m.HealthReported(is_healthy=False), m.Confirmed(), m.RolledBack(),
    ]  # fmt: skip
    rig = Rig()
    rig.start()
    for event in events:
        assert rig.take(event) == []
        assert rig.phase == "idle"


def test_a_report_is_said_once_until_it_changes() -> None:
    rig = Rig()
    rig.start()
    rig.take(m.Tick())
    rig.take(m.CheckAsked())
    assert [(one.version, one.state, one.progress, one.error) for one in rig.reports] == [
        ("1.5.0", "idle", None, ""), ("1.5.0", "checking", None, ""),
    ]  # fmt: skip


@pytest.mark.parametrize(("length", "kept"), [(200, 200), (201, 200)])
def test_memory_is_bounded(length: int, kept: int) -> None:
    memory = Memory()
    for number in range(33):
        memory = Memory(refused=memory.refuse(f"{number}", "x" * length))
    assert [one.manifest_sha256 for one in memory.refused] == [str(number) for number in range(1, 33)]
    assert len(memory.refused[0].reason) == kept
    assert not memory.has_refused("0")
    assert memory.has_refused("1")


def test_memory_is_read_up_to_its_limit() -> None:
    content = render_memory(Memory(told="x"))
    assert parse_memory(content.ljust(MAX_MEMORY_BYTES)) == Memory(told="x")
    assert parse_memory(content.ljust(MAX_MEMORY_BYTES + 1)) == Memory()
    assert parse_memory(None) == Memory()


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b"\xff")
@example(b'{"candidate":{}}')
def test_memory_of_junk_is_forgotten(content: bytes) -> None:
    assert parse_memory(content).candidate is None
