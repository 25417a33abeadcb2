"""Reports the agent's own health, as numbers, every so often."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_duration, render_duration
from fleetward.features.messaging.device import Telemetry
from fleetward.programs.agent.abilities.ability import Ability, Reading
from fleetward.programs.agent.loop import Timer
from fleetward.programs.agent.tools import Tools
from fleetward.wire.command import Command, CommandResult
from fleetward.wire.mqtt_topics import TopicKind

_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")
_STATM = Path("/proc/self/statm")


class Health(Ability):
    """Metrics of the device. The interval is the settings', until the desired state names another."""

    name = "health"
    section = Telemetry
    commands = frozenset({"report"})

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        found = tools.config.find(Telemetry) or Telemetry()
        self._interval = parse_duration(found.interval, what="telemetry.interval")
        self._started_s = time.monotonic()
        self._timer: Timer | None = None

    def start(self) -> None:
        self._state_interval()
        self._beat()

    def on_desired(self, desired: dict[str, Any]) -> None:
        telemetry = desired.get("telemetry")
        text = telemetry.get("interval") if isinstance(telemetry, dict) else None
        if text is None:
            return
        try:
            interval = parse_duration(str(text), what="telemetry.interval")
        except InvalidInputError as error:
            self.tools.log.warning("desired_state_unusable", reason=error.message)
            return
        if interval != self._interval:
            self._interval = interval
            self._state_interval()
            self._beat()

    def perform(self, command: Command, finish: Callable[[CommandResult], None]) -> None:
        del command
        finish(CommandResult(ok=True, output=self._report()))

    def status(self) -> dict[str, Any]:
        return {"interval": render_duration(self._interval)}

    def _state_interval(self) -> None:
        self.tools.core.state_of("telemetry", {"interval": render_duration(self._interval)})

    def _beat(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.tools.after(self._interval.total_seconds(), self._beat)
        self._report()

    def _report(self) -> dict[str, Any]:
        core = self.tools.core
        health = measure_health(self._started_s, self.tools.config.state_dir)
        health |= {"queued_bytes": core.queued_bytes, "degraded": core.is_degraded}
        core.put(Reading(TopicKind.METRICS, "", health))
        return health


def measure_health(started_s: float, disk: Path) -> dict[str, Any]:
    """Return uptime and memory of the agent, load and temperature of the device, room on `disk`.

    What the device does not offer is left out.
    """
    found: dict[str, Any] = {
        "uptime_s": round(time.monotonic() - started_s, 1),
        "rss_bytes": _read_rss(),
        "load_1m": round(os.getloadavg()[0], 2),
    }
    temperature = _read_number(_THERMAL)
    if temperature is not None:
        found["cpu_celsius"] = temperature / 1000
    try:
        room = os.statvfs(disk)
    except OSError:
        return found
    found["disk_free_bytes"] = room.f_bavail * room.f_frsize
    return found


def _read_rss() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
