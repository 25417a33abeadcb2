"""The update machine itself. The package's docstring says how to drive it."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from fleetward.base.errors import InvalidInputError
from fleetward.features.updates.boot.pointer import BootPointer, Slot
from fleetward.features.updates.boot.record import BootRecord
from fleetward.features.updates.device import messages as m
from fleetward.features.updates.device.memory import (
    Candidate,
    Settings,
    parse_memory,
    render_memory,
)
from fleetward.wire.manifest import FirmwareManifest, digest_manifest, verify_manifest

_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 3600.0
_FULL_PAUSE_S = 900.0
_REBOOT_AGAIN_S = 60.0
_PROGRESS_STEP = 5
_MAX_TOLD_CHARS = 500


class Phase(StrEnum):
    STARTING = "starting"
    IDLE = "idle"
    CHECKING = "checking"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    WRITING = "writing"
    SWITCHING = "switching"
    REBOOTING = "rebooting"
    TRIAL = "trial"
    CONFIRMING = "confirming"
    ROLLING_BACK = "rolling_back"


class UpdateMachine:
    """Keeps one device's firmware up to date.

    Attributes:
        phase: where it stands.
        wake_at_s: when to hand in a Tick at the latest; None while another event is awaited.
    """

    def __init__(self, settings: Settings, saved: bytes | None) -> None:
        """Continue from `saved`, the content of the last Save."""
        self.phase = Phase.STARTING
        self.wake_at_s: float | None = None
        self._settings = settings
        self._memory = parse_memory(saved)
        self._saved = saved
        self._now_s = 0.0
        self._boot = BootRecord(boot_id="")
        self._floor = 0
        self._target_slot = Slot.B
        self._manifest: FirmwareManifest | None = None
        self._envelope = b""
        self._failures = 0
        self._reported: m.Report | None = None
        self._progress: int | None = None
        self._error = ""

    def handle(self, event: m.Event, now_s: float) -> list[m.Command]:
        """Return what to do, in order, now that `event` has happened. Events out of turn change nothing."""
        self._now_s = now_s
        act = self._TABLE.get((self.phase, type(event)))
        commands = act(self, event) if act is not None else []
        content = render_memory(self._memory)
        if content != self._saved:
            self._saved = content
            commands.insert(0, m.Save(content))
        return [*self._report(), *commands]

    def _on_started(self, event: m.Started) -> list[m.Command]:
        self._boot, self._floor = event.boot, event.counter
        pointer = event.pointer or BootPointer(event.boot.slot or Slot.A)
        self._target_slot = event.boot.slot.other if event.boot.slot else pointer.active.other
        commands = self._tell_refusals()
        if pointer.trial is not None:
            if self._boot.is_trial and self._boot.manifest_sha256 == pointer.trial.manifest_sha256:
                self._go(Phase.TRIAL, wake_in_s=self._settings.trial_timeout_s)
                return commands
            return [*commands, *self._reboot("to start the firmware put on trial")]
        commands += self._settle_confirmed()
        commands += self._settle_rolled_back(pointer)
        if self._memory.candidate is not None:
            return [*commands, *self._download(self._memory.candidate)]
        self._go(Phase.IDLE, wake_in_s=0.0)
        return commands

    def _on_idle_tick(self, _event: m.Tick) -> list[m.Command]:
        return self._check() if self._is_due() else []

    def _on_asked(self, _event: m.CheckAsked) -> list[m.Command]:
        return self._check()

    def _on_offered(self, event: m.Offered) -> list[m.Command]:
        """Take a release only when it is signed by pinned keys, for this model, and newer."""
        envelope = event.envelope
        digest = "" if envelope is None else digest_manifest(envelope).hex()
        if envelope is None or digest == self._boot.manifest_sha256 or self._memory.has_refused(digest):
            return self._rest(is_well=True)
        try:
            manifest = self._verify_offer(envelope)
        except InvalidInputError as error:
            return self._refuse_release(digest, error.message)
        if not self._is_newer(manifest):
            return self._rest(is_well=True)
        candidate = self._memory.candidate
        if candidate is not None and candidate.manifest_sha256 == digest:
            return self._download(candidate)
        self._manifest, self._envelope = manifest, envelope
        self._remember(candidate=None)
        return [m.Discard(), m.Locate(manifest.version)]

    def _verify_offer(self, envelope: bytes) -> FirmwareManifest:
        manifest = verify_manifest(envelope, self._settings.pinned)
        model = self._settings.model
        if manifest.model != model:
            raise InvalidInputError(
                f"firmware {manifest.version}: expected it for {model}, found it for {manifest.model}"
            )
        return manifest

    def _on_located(self, event: m.Located) -> list[m.Command]:
        manifest, target = self._manifest, event.target
        if manifest is None or target is None:
            return self._fail("update metadata: expected the image of the current release, found none")
        if (target.sha256, target.length) != (manifest.sha256, manifest.length):
            return self._fail(
                f"image of {manifest.version}: expected what the manifest names, found another in TUF",
                severity="critical",
            )
        candidate = Candidate(self._envelope, target, manifest.version, manifest.security_counter)
        self._remember(candidate=candidate)
        return self._download(candidate)

    def _on_check_failed(self, event: m.CheckFailed) -> list[m.Command]:
        if event.is_refusal:
            return self._fail(event.reason, severity="critical")
        return self._fail(event.reason, severity=None)

    def _on_progressed(self, event: m.Progressed) -> list[m.Command]:
        candidate = self._memory.candidate
        if candidate is None:
            return self._rest()
        percent = min(100, event.received * 100 // candidate.target.length)
        self._progress = percent - percent % _PROGRESS_STEP
        return [m.Download(candidate)]

    def _on_downloaded(self, _event: m.Downloaded) -> list[m.Command]:
        return self._with_candidate(Phase.VERIFYING, m.Verify)

    def _on_download_failed(self, event: m.DownloadFailed) -> list[m.Command]:
        match event.trouble:
            case m.Trouble.NETWORK:
                return self._fail(event.reason, severity=None)
            case m.Trouble.DISK_FULL:
                # Room may come back; until then the device needs what the download took.
                commands = [m.Discard(), *self._fail(event.reason)]
                self.wake_at_s = self._now_s + max(_FULL_PAUSE_S, self._settings.pause_s)
                return commands
            case m.Trouble.MISMATCH:
                return [m.Discard(), *self._fail(event.reason, severity="critical")]

    def _on_verified(self, _event: m.Verified) -> list[m.Command]:
        slot = self._target_slot
        return self._with_candidate(Phase.WRITING, lambda candidate: m.Write(candidate, slot))

    def _on_verify_failed(self, event: m.VerifyFailed) -> list[m.Command]:
        return [m.Discard(), *self._fail(event.reason, severity="critical")]

    def _on_written(self, _event: m.Written) -> list[m.Command]:
        slot = self._target_slot
        return self._with_candidate(
            Phase.SWITCHING, lambda candidate: m.Switch(slot, candidate.manifest_sha256)
        )

    def _on_write_failed(self, event: m.WriteFailed) -> list[m.Command]:
        return self._fail(event.reason)

    def _on_switched(self, _event: m.Switched) -> list[m.Command]:
        candidate = self._memory.candidate
        version = candidate.version if candidate else "?"
        message = f"Firmware {version} was installed and goes on trial."
        told = m.Tell("update.installed", "info", message, {"version": version})
        return [told, *self._reboot(f"to try firmware {version}")]

    def _on_reboot_tick(self, _event: m.Tick) -> list[m.Command]:
        return self._reboot("asked for before") if self._is_due() else []

    def _on_health(self, event: m.HealthReported) -> list[m.Command]:
        if not event.is_healthy:
            return self._roll_back(event.reason or "the application says it is not well")
        self._go(Phase.CONFIRMING)
        return [m.Confirm(self._boot.security_counter)]

    def _on_trial_tick(self, _event: m.Tick) -> list[m.Command]:
        if not self._is_due():
            return []
        return self._roll_back(f"it did not prove its health within {self._settings.trial_timeout_s:.0f} s")

    def _on_confirmed(self, _event: m.Confirmed) -> list[m.Command]:
        self._floor = max(self._floor, self._boot.security_counter)
        commands = self._forget_running_candidate()
        return [*commands, *self._rest(is_well=True)]

    def _on_confirm_failed(self, event: m.WriteFailed) -> list[m.Command]:
        """Go on with the trial: it will be confirmed at the next sign of health, or rolled back."""
        self._error = event.reason
        self._go(Phase.TRIAL, wake_in_s=self._settings.trial_timeout_s)
        return []

    def _on_rolled_back(self, _event: m.RolledBack) -> list[m.Command]:
        return self._reboot("to return to the firmware that works")

    def _on_roll_back_failed(self, event: m.WriteFailed) -> list[m.Command]:
        """Reboot all the same: the boot stage counts the tries."""
        self._error = event.reason
        return self._reboot("to return to the firmware that works")

    def _is_newer(self, manifest: FirmwareManifest) -> bool:
        """Tell whether to move to `manifest`: forward, or, when nothing runs, to anything above the floor."""
        if manifest.security_counter < self._floor:
            return False
        return self._boot.slot is None or manifest.security_counter > self._boot.security_counter

    def _settle_confirmed(self) -> list[m.Command]:
        """Finish what a kill after the confirmation left: the counter, and the candidate."""
        commands: list[m.Command] = []
        if self._boot.security_counter > self._floor:
            self._floor = self._boot.security_counter
            commands.append(m.AdvanceCounter(self._floor))
        return [*commands, *self._forget_running_candidate()]

    def _forget_running_candidate(self) -> list[m.Command]:
        candidate = self._memory.candidate
        if candidate is None or candidate.manifest_sha256 != self._boot.manifest_sha256:
            return []
        self._remember(candidate=None)
        message = f"Firmware {candidate.version} proved its health and is confirmed."
        details = {"version": candidate.version, "security_counter": candidate.security_counter}
        return [m.Discard(), m.Tell("update.confirmed", "notice", message, details)]

    def _settle_rolled_back(self, pointer: BootPointer) -> list[m.Command]:
        failed = pointer.failed
        if failed is None or self._memory.has_refused(failed.manifest_sha256):
            return []
        candidate = self._memory.candidate
        version = "unknown"
        commands: list[m.Command] = []
        if candidate is not None and candidate.manifest_sha256 == failed.manifest_sha256:
            version = candidate.version
            self._remember(candidate=None)
            commands = [m.Discard()]
        self._remember(refused=self._memory.refuse(failed.manifest_sha256, failed.reason))
        self._error = f"firmware {version} was rolled back: {failed.reason}"
        message = f"Firmware {version} was rolled back to {self._boot.version}: {failed.reason}"
        details = {"version": version, "running": self._boot.version, "reason": failed.reason}
        return [*commands, m.Tell("update.rolled_back", "critical", message, details)]

    def _tell_refusals(self) -> list[m.Command]:
        """Tell once what the boot stage refused to start. An empty slot is no news."""
        if self._boot.boot_id == self._memory.told_boot:
            return []
        self._remember(told_boot=self._boot.boot_id)
        return [
            m.Tell(
                "boot.refused", "critical", f"The boot stage refused {one.message}.",
                {"slot": one.slot.value, "reason": one.refusal.value, "running": self._boot.version},
            )
            for one in self._boot.refused
            if one.refusal != "empty" or self._boot.slot is None
        ]  # fmt: skip

    def _refuse_release(self, digest: str, reason: str) -> list[m.Command]:
        self._remember(refused=self._memory.refuse(digest, reason))
        message = f"An offered firmware was refused: {reason}"
        details = {"manifest_sha256": digest, "reason": reason}
        self._rest()
        self._error = reason
        return [m.Tell("update.refused", "critical", message, details)]

    def _roll_back(self, reason: str) -> list[m.Command]:
        self._go(Phase.ROLLING_BACK)
        return [m.RollBack(reason)]

    def _reboot(self, reason: str) -> list[m.Command]:
        self._go(Phase.REBOOTING, wake_in_s=_REBOOT_AGAIN_S)
        return [m.Reboot(reason)]

    def _check(self) -> list[m.Command]:
        self._go(Phase.CHECKING)
        return [m.Check()]

    def _download(self, candidate: Candidate) -> list[m.Command]:
        self._progress = 0
        self._go(Phase.DOWNLOADING)
        return [m.Download(candidate)]

    def _with_candidate(self, phase: Phase, command: Callable[[Candidate], m.Command]) -> list[m.Command]:
        candidate = self._memory.candidate
        if candidate is None:
            return self._rest()
        self._go(phase)
        return [command(candidate)]

    def _fail(self, reason: str, *, severity: str | None = "warning") -> list[m.Command]:
        """Pause longer each time, and tell of a trouble once until something went well."""
        self._failures += 1
        self._error = reason
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures - 1, 20))
        self._go(Phase.IDLE, wake_in_s=min(pause_s, max(self._settings.pause_s, _FIRST_PAUSE_S)))
        told = reason[:_MAX_TOLD_CHARS]
        if severity is None or self._memory.told == told:
            return []
        self._remember(told=told)
        kind = "update.refused" if severity == "critical" else "update.failed"
        return [m.Tell(kind, severity, f"An update did not go on: {reason}", {"reason": reason})]

    def _rest(self, *, is_well: bool = False) -> list[m.Command]:
        if is_well:
            self._failures, self._error = 0, ""
            self._remember(told="")
        self._go(Phase.IDLE, wake_in_s=self._settings.pause_s)
        return []

    def _is_due(self) -> bool:
        return self.wake_at_s is not None and self._now_s >= self.wake_at_s

    def _go(self, phase: Phase, *, wake_in_s: float | None = None) -> None:
        self.phase = phase
        self.wake_at_s = None if wake_in_s is None else self._now_s + wake_in_s
        if phase is not Phase.DOWNLOADING:
            self._progress = None

    def _remember(self, **changes: Any) -> None:
        self._memory = msgspec.structs.replace(self._memory, **changes)

    def _report(self) -> list[m.Command]:
        report = m.Report(self._boot.version, self.phase.value, self._progress, self._error)
        if report == self._reported:
            return []
        self._reported = report
        return [report]

    _TABLE: ClassVar[dict[tuple[Phase, type], Callable[["UpdateMachine", Any], list[m.Command]]]] = {
        (Phase.STARTING, m.Started): _on_started,
        (Phase.IDLE, m.Tick): _on_idle_tick,
        (Phase.IDLE, m.CheckAsked): _on_asked,
        (Phase.CHECKING, m.Offered): _on_offered,
        (Phase.CHECKING, m.Located): _on_located,
        (Phase.CHECKING, m.CheckFailed): _on_check_failed,
        (Phase.DOWNLOADING, m.Progressed): _on_progressed,
        (Phase.DOWNLOADING, m.Downloaded): _on_downloaded,
        (Phase.DOWNLOADING, m.DownloadFailed): _on_download_failed,
        (Phase.VERIFYING, m.Verified): _on_verified,
        (Phase.VERIFYING, m.VerifyFailed): _on_verify_failed,
        (Phase.WRITING, m.Written): _on_written,
        (Phase.WRITING, m.WriteFailed): _on_write_failed,
        (Phase.SWITCHING, m.Switched): _on_switched,
        (Phase.SWITCHING, m.WriteFailed): _on_write_failed,
        (Phase.REBOOTING, m.Tick): _on_reboot_tick,
        (Phase.TRIAL, m.HealthReported): _on_health,
        (Phase.TRIAL, m.Tick): _on_trial_tick,
        (Phase.CONFIRMING, m.Confirmed): _on_confirmed,
        (Phase.CONFIRMING, m.WriteFailed): _on_confirm_failed,
        (Phase.ROLLING_BACK, m.RolledBack): _on_rolled_back,
        (Phase.ROLLING_BACK, m.WriteFailed): _on_roll_back_failed,
    }
