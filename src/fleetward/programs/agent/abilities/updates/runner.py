"""Runs the update machine: performs its commands with TUF, the disk, the slots and the counter.

    runner = UpdateRunner(config.firmware, …)
    pause_s = runner.step(clock.now())      # in a thread of its own; again after pause_s, or on a hint

`report_health` and `check_now` may be called from any thread; a step picks them up.
"""

import queue
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from fleetward.base.errors import FleetwardError, InvalidInputError, UnavailableError
from fleetward.base.files import write_secret
from fleetward.base.ids import parse_duration
from fleetward.features.updates.boot.pointer import BootPointer, Slot, begin_trial, confirm, give_up
from fleetward.features.updates.device import messages as m
from fleetward.features.updates.device.machine import UpdateMachine
from fleetward.features.updates.device.memory import MAX_MEMORY_BYTES, Settings
from fleetward.features.updates.device.settings import Firmware
from fleetward.features.updates.ports import ArtifactFetcher, SecurityCounter
from fleetward.outside.slots.folder import SlotFolder
from fleetward.outside.tuf.client import MetadataRefusedError, TufClient
from fleetward.outside.tuf.download import ArtifactMismatchError, DiskFullError, PartFile
from fleetward.programs.agent.pinned import load_boot_record, load_pinned_keys, load_tuf_root
from fleetward.wire.manifest import verify_manifest

_LONGEST_PAUSE_S = 60.0
_AFTER_TROUBLE_S = 30.0


@dataclass(frozen=True)
class Outlets:
    """Where a runner's words go. Called from the thread that steps.

    Attributes:
        tell: events for the platform.
        report: the shadow's `firmware` section.
        reboot: asks for a restart of the device; the agent then exits with 75.
    """

    tell: Callable[[m.Tell], None]
    report: Callable[[m.Report], None]
    reboot: Callable[[str], None]


class UpdateRunner:
    """Keeps the firmware in `firmware.slots_dir` up to date."""

    def __init__(
        self,
        firmware: Firmware,
        *,
        state_dir: Path,
        device_id: str,
        fetch: ArtifactFetcher,
        counter: SecurityCounter,
        outlets: Outlets,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Continue where the last process stopped.

        Raises:
            ConfigError: what provisioning pinned is missing or damaged, or the device was not started by
                `fleetward agent boot`.
        """
        self._settings = Settings(
            model=firmware.model,
            pinned=load_pinned_keys(firmware.keys_file),
            poll_interval_s=parse_duration(firmware.poll_interval, what="poll_interval").total_seconds(),
            trial_timeout_s=parse_duration(firmware.trial_timeout, what="trial_timeout").total_seconds(),
            spread=sum(device_id.encode()) % 101 / 100,
        )
        self._record = load_boot_record(state_dir)
        self._slots = SlotFolder(firmware.slots_dir)
        root = load_tuf_root(firmware.tuf_root)
        self._tuf = TufClient(state_dir / "tuf", root=root, model=firmware.model, fetch=fetch)
        self._part = PartFile(state_dir / "download.part", fetch)
        self._memory = state_dir / "update.json"
        self._counter = counter
        self._outlets = outlets
        self._timer = timer
        self._hints: queue.SimpleQueue[m.Event] = queue.SimpleQueue()
        self._events: deque[m.Event] = deque()
        self._machine: UpdateMachine | None = None
        self._resume_at_s = 0.0
        self._now: datetime | None = None

    @property
    def is_on_trial(self) -> bool:
        """Whether the running firmware waits for `report_health`."""
        return self._machine is not None and self._machine.phase in ("trial", "confirming")

    def report_health(self, *, is_healthy: bool, reason: str = "") -> None:
        """Say how the application is; ends a trial, well or badly. Ignored when there is none."""
        self._hints.put(m.HealthReported(is_healthy, reason))

    def check_now(self) -> None:
        """Look for a release at the next step instead of after the pause."""
        self._hints.put(m.CheckAsked())

    def step(self, now: datetime) -> float:
        """Do the next thing, at most a few seconds of it, and return in how many seconds to come again."""
        now_s = self._timer()
        self._now = now
        while not self._hints.empty():
            self._events.append(self._hints.get())
        if self._machine is None:
            if now_s < self._resume_at_s:
                return self._resume_at_s - now_s
            self._start()
        machine = self._machine
        if machine is None:
            return _AFTER_TROUBLE_S
        event = self._events.popleft() if self._events else m.Tick()
        try:
            for command in machine.handle(event, now_s):
                self._perform(command)
        except OSError as error:
            self._stop_for(error)
            return _AFTER_TROUBLE_S
        if self._events:
            return 0.0
        wake_s = machine.wake_at_s
        return _LONGEST_PAUSE_S if wake_s is None else min(_LONGEST_PAUSE_S, max(0.0, wake_s - now_s))

    def close(self) -> None:
        """Let go of a download under way; it is resumed by the next process."""
        self._part.close()

    def _start(self) -> None:
        """Make the machine from what is on disk."""
        try:
            counter = self._counter.read_counter()
        except FleetwardError as error:
            self._resume_at_s = self._timer() + _AFTER_TROUBLE_S
            self._report(m.Report(self._record.version, "blocked", error=error.message))
            return
        saved = None
        if self._memory.exists():
            with self._memory.open("rb") as file:
                saved = file.read(MAX_MEMORY_BYTES + 1)
        self._machine = UpdateMachine(self._settings, saved)
        self._events.appendleft(m.Started(self._record, self._slots.read_pointer(), counter))

    def _stop_for(self, error: OSError) -> None:
        """Drop the machine when its state cannot be written; the next one starts from what was."""
        self._part.close()
        self._machine = None
        self._events.clear()
        self._resume_at_s = self._timer() + _AFTER_TROUBLE_S
        reason = f"{error.filename or self._memory}: {error.strerror}"
        self._report(m.Report(self._record.version, "blocked", error=reason))

    def _perform(self, command: m.Command) -> None:
        answer = self._answer(command)
        if answer is not None:
            self._events.appendleft(answer)

    def _answer(self, command: m.Command) -> m.Event | None:
        act = self._ACTS.get(type(command))
        if act is not None:
            return act(self, command)
        write = self._WRITES.get(type(command))
        if write is None:
            self._say(command)
            return None
        try:
            return write(self, command)
        except OSError as error:
            return m.WriteFailed(f"{error.filename or 'slot'}: {error.strerror}")
        except FleetwardError as error:
            return m.WriteFailed(error.message)

    def _say(self, command: m.Command) -> None:
        match command:
            case m.Save(content):
                write_secret(self._memory, content)
            case m.Discard():
                self._part.discard()
            case m.Tell():
                self._outlets.tell(command)
            case m.Report():
                self._report(command)
            case m.Reboot(reason):
                self._outlets.reboot(reason)

    def _report(self, report: m.Report) -> None:
        self._outlets.report(replace(report, slots=self._describe_slots()))

    def _describe_slots(self) -> m.SlotsReport | None:
        try:
            pointer = self._pointer()
        except OSError:
            return None  # the disk fails, which the report itself says
        trial = pointer.trial
        return m.SlotsReport(
            running=self._record.slot,
            confirmed=pointer.active,
            trial=trial.slot if trial else None,
            tries_left=trial.tries_left if trial else 0,
            versions={slot: self._version_in(slot) for slot in Slot},
        )

    def _version_in(self, slot: Slot) -> str | None:
        try:
            envelope = self._slots.read(slot).envelope
            return None if envelope is None else verify_manifest(envelope, self._settings.pinned).version
        except (OSError, FleetwardError):
            return None  # unreadable or unsigned is as good as empty: the boot stage will not start it

    def _check(self, _command: m.Check) -> m.Event:
        now = self._now
        assert now is not None  # noqa: S101 - set by `step`, which alone leads here
        try:
            return m.Offered(self._tuf.check(now))
        except UnavailableError as error:
            return m.CheckFailed(error.message)
        except (MetadataRefusedError, InvalidInputError) as error:
            return m.CheckFailed(error.message, is_refusal=True)

    def _locate(self, command: m.Locate) -> m.Event:
        return m.Located(self._tuf.locate(command.version))

    def _download(self, command: m.Download) -> m.Event:
        target = command.candidate.target
        try:
            received = self._part.advance(self._tuf.image_path(target), target)
        except DiskFullError as error:
            return m.DownloadFailed(error.message, m.Trouble.DISK_FULL)
        except ArtifactMismatchError as error:
            return m.DownloadFailed(error.message, m.Trouble.MISMATCH)
        except UnavailableError as error:
            return m.DownloadFailed(error.message, m.Trouble.NETWORK)
        return m.Downloaded() if received == target.length else m.Progressed(received)

    def _verify(self, command: m.Verify) -> m.Event:
        try:
            self._part.verify(command.candidate.target)
        except ArtifactMismatchError as error:
            return m.VerifyFailed(error.message)
        return m.Verified()

    def _write(self, command: m.Write) -> m.Event:
        self._slots.write(command.slot, self._part.path, command.candidate.envelope)
        return m.Written()

    def _switch(self, command: m.Switch) -> m.Event:
        self._slots.write_pointer(begin_trial(self._pointer(), command.slot, command.manifest_sha256))
        return m.Switched()

    def _confirm(self, command: m.Confirm) -> m.Event:
        self._slots.write_pointer(confirm(self._pointer()))
        self._counter.advance_counter(command.counter)
        return m.Confirmed()

    def _roll_back(self, command: m.RollBack) -> m.Event:
        self._slots.write_pointer(give_up(self._pointer(), command.reason))
        return m.RolledBack()

    def _advance(self, command: m.AdvanceCounter) -> m.Event | None:
        self._counter.advance_counter(command.counter)
        return None

    def _pointer(self) -> BootPointer:
        return self._slots.read_pointer() or BootPointer(self._record.slot or Slot.A)

    _ACTS: ClassVar[dict[type, Callable[["UpdateRunner", Any], m.Event | None]]] = {
        m.Check: _check,
        m.Locate: _locate,
        m.Download: _download,
        m.Verify: _verify,
    }
    _WRITES: ClassVar[dict[type, Callable[["UpdateRunner", Any], m.Event | None]]] = {
        m.Write: _write,
        m.Switch: _switch,
        m.Confirm: _confirm,
        m.RollBack: _roll_back,
        m.AdvanceCounter: _advance,
    }
