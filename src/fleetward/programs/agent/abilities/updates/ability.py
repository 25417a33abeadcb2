"""Runs the update machine in a worker, and carries its words to platform and loop.

The update client is loaded only here and only when firmware is configured: it is the agent's largest library.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from fleetward.base.errors import UnavailableError
from fleetward.features.updates.device.settings import Firmware
from fleetward.outside.http.device import Download
from fleetward.programs.agent.abilities.ability import Ability, Reading
from fleetward.programs.agent.inbox import Felt, Note
from fleetward.programs.agent.keys import DeviceKeys
from fleetward.programs.agent.loop import Timer
from fleetward.programs.agent.tools import Tools
from fleetward.wire.command import Command, CommandResult
from fleetward.wire.mqtt_topics import TopicKind

if TYPE_CHECKING:
    from fleetward.features.updates.device import messages as m
    from fleetward.features.updates.ports import SecurityCounter
    from fleetward.programs.agent.abilities.updates.runner import UpdateRunner

_LEVELS = {"info": "info", "notice": "info", "warning": "warning", "critical": "error"}


class Updates(Ability):
    """The device's updates. Without a `firmware` section it has none."""

    name = "updates"
    section = Firmware
    commands = frozenset({"update-now"})

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._firmware = tools.config.find(Firmware)
        self._runner: UpdateRunner | None = None
        self._timer: Timer | None = None
        self._is_busy = False
        self._is_hinted = False
        self._health = ""

    def on_keys(self, keys: DeviceKeys) -> None:
        firmware, chip = self._firmware, keys.chip
        if firmware is not None and self._runner is None:
            self.tools.submit(lambda: self._open(firmware, chip), self._on_open)

    def from_application(self, note: Note) -> Note | None:
        """How the application is decides a trial."""
        if isinstance(note, Felt):
            is_new, self._health = note.health != self._health, note.health
            runner = self._runner
            if runner is not None and (is_new or runner.is_on_trial):
                runner.report_health(is_healthy=note.health == "ok", reason=note.reason)
                self._hint()
        return note

    def perform(self, command: Command, finish: Callable[[CommandResult], None]) -> None:
        del command
        if self._firmware is None:
            finish(CommandResult(ok=False, error="this device does not update itself"))
            return
        if self._runner is not None:
            self._runner.check_now()
            self._hint()
        finish(CommandResult(ok=True, output="looking for a release"))

    def status(self) -> dict[str, str] | None:
        return None if self._firmware is None else {"trouble": ""}

    def _open(self, firmware: Firmware, chip: "SecurityCounter | None") -> "UpdateRunner":
        from fleetward.outside.slots.counter import COUNTER_FILE, FileCounter  # noqa: PLC0415 - see above
        from fleetward.programs.agent.abilities.updates.runner import (  # noqa: PLC0415 - see above
            Outlets,
            UpdateRunner,
        )

        tools = self.tools
        outlets = Outlets(
            tell=lambda told: tools.post(partial(self._on_tell, told)),
            report=lambda report: tools.post(partial(self._on_report, report)),
            reboot=lambda reason: tools.post(partial(tools.core.reboot, reason)),
        )
        state_dir = tools.config.state_dir
        return UpdateRunner(
            firmware,
            state_dir=state_dir,
            device_id=tools.config.device_id,
            fetch=self._fetch,
            counter=FileCounter(state_dir / COUNTER_FILE) if chip is None else chip,
            outlets=outlets,
        )

    def _on_open(self, opened: "UpdateRunner") -> None:
        self._runner = opened
        self._step()

    def _hint(self) -> None:
        self._is_hinted = True
        self._step()

    def _step(self) -> None:
        runner = self._runner
        if self._is_busy or runner is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._is_busy, self._is_hinted = True, False
        self.tools.submit(lambda: runner.step(self.tools.clock.now()), self._on_step)

    def _on_step(self, pause_s: float) -> None:
        self._is_busy = False
        self._timer = self.tools.after(0.0 if self._is_hinted else pause_s, self._step)

    def _fetch(self, path: str, *, offset: int = 0) -> AbstractContextManager[Download]:
        identity = self.tools.core.identity()
        if identity is None:
            raise UnavailableError("update: expected a certificate to fetch with, found none that is valid")
        return self.tools.http.download(path, offset=offset, identity=identity)

    def _on_tell(self, told: "m.Tell") -> None:
        """Send an event of the machine as a log entry that names its kind."""
        entry = {
            "event": told.kind,
            "level": _LEVELS.get(told.severity, "warning"),
            "severity": told.severity,
            "message": told.message,
            **told.details,
        }
        self.tools.log.info("update_event", kind=told.kind, severity=told.severity, reason=told.message)
        self.tools.core.put(Reading(TopicKind.LOG, "", entry))

    def _on_report(self, report: "m.Report") -> None:
        section: dict[str, Any] = {"version": report.version, "state": report.state}
        if report.progress is not None:
            section["progress"] = report.progress
        if report.error:
            section["error"] = report.error
        if report.slots is not None:
            section["slots"] = {
                "running": report.slots.running,
                "confirmed": report.slots.confirmed,
                "trial": report.slots.trial,
                "tries_left": report.slots.tries_left,
                "versions": {slot.value: version for slot, version in report.slots.versions.items()},
            }
        self.tools.core.state_of("firmware", section)
