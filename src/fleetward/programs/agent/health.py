"""The agent's own health, as numbers."""

import os
import time
from pathlib import Path
from typing import Any

_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")
_STATM = Path("/proc/self/statm")


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
