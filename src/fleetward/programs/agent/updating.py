"""Runs the update machine in a worker, and carries its words to platform and loop.

The update client is loaded only here and only when firmware is configured: it is the agent's largest library.
"""

from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from fleetward.base.agent_config import Firmware
from fleetward.base.errors import FleetwardError, UnavailableError
from fleetward.features.attestation.ports import AttestationDevice
from fleetward.features.updates.device import messages as m
from fleetward.outside.http.device import Download
from fleetward.outside.slots.counter import COUNTER_FILE, FileCounter
from fleetward.outside.tls.client import TlsIdentity
from fleetward.programs.agent.loop import Timer, Worker
from fleetward.programs.agent.parts import Parts
from fleetward.programs.agent.session import Session
from fleetward.programs.agent.shadow import Shadow
from fleetward.wire.mqtt_topics import TopicKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetward.programs.agent.update import UpdateRunner

_LEVELS = {"info": "info", "notice": "info", "warning": "warning", "critical": "error"}


class Updating:
    """The device's updates."""

    def __init__(
        self,
        parts: Parts,
        firmware: Firmware,
        *,
        chip: AttestationDevice | None,
        identity: "Callable[[], TlsIdentity | None]",
        session: Session,
        shadow: Shadow,
        reboot: "Callable[[str], None]",
    ) -> None:
        """Follow the releases of `firmware.model`, with the TPM's counter when there is a `chip`."""
        self._parts = parts
        self._firmware = firmware
        self._counter = FileCounter(parts.config.state_dir / COUNTER_FILE) if chip is None else chip
        self._identity = identity
        self._session = session
        self._shadow = shadow
        self._reboot = reboot
        self._worker = Worker(parts.loop, "updates")
        self._runner: UpdateRunner | None = None
        self._timer: Timer | None = None
        self._is_busy = False
        self._is_hinted = False
        self.trouble = ""

    @property
    def is_on_trial(self) -> bool:
        return self._runner is not None and self._runner.is_on_trial

    def start(self) -> None:
        self._worker.submit(self._open, self._on_open)

    def report_health(self, *, is_healthy: bool, reason: str) -> None:
        """Pass on how the application is; it decides a trial."""
        if self._runner is not None:
            self._runner.report_health(is_healthy=is_healthy, reason=reason)
            self._hint()

    def check_now(self) -> None:
        if self._runner is not None:
            self._runner.check_now()
            self._hint()

    def _open(self) -> "UpdateRunner | str":
        from fleetward.programs.agent.update import Outlets, UpdateRunner  # noqa: PLC0415 - see above

        post = self._parts.loop.post
        outlets = Outlets(
            tell=lambda told: post(partial(self._on_tell, told)),
            report=lambda report: post(partial(self._on_report, report)),
            reboot=lambda reason: post(partial(self._reboot, reason)),
        )
        try:
            return UpdateRunner(
                self._firmware,
                state_dir=self._parts.config.state_dir,
                device_id=self._parts.config.device_id,
                fetch=self._fetch,
                counter=self._counter,
                outlets=outlets,
            )
        except FleetwardError as error:
            return str(error)

    def _on_open(self, opened: "UpdateRunner | str") -> None:
        if isinstance(opened, str):
            self.trouble = opened
            self._parts.log.warning("updates_off", reason=opened)
            return
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
        self._worker.submit(lambda: runner.step(self._parts.clock.now()), self._on_step)

    def _on_step(self, pause_s: float) -> None:
        self._is_busy = False
        self._timer = self._parts.loop.after(0.0 if self._is_hinted else pause_s, self._step)

    def _fetch(self, path: str, *, offset: int = 0) -> AbstractContextManager[Download]:
        identity = self._identity()
        if identity is None:
            raise UnavailableError("update: expected a certificate to fetch with, found none that is valid")
        return self._parts.http.download(path, offset=offset, identity=identity)

    def _on_tell(self, told: m.Tell) -> None:
        """Send an event of the machine as a log entry that names its kind."""
        entry = {
            "event": told.kind,
            "level": _LEVELS.get(told.severity, "warning"),
            "severity": told.severity,
            "message": told.message,
            **told.details,
        }
        self._parts.log.info("update_event", kind=told.kind, severity=told.severity, reason=told.message)
        self._session.put_reading(TopicKind.LOG, "", entry)

    def _on_report(self, report: m.Report) -> None:
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
        self._shadow.state_of("firmware", section)
