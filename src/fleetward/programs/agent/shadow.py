"""The device's shadow: what it reports of itself, and what of the desired state it can bring about.

The whole desired state also goes to `desired.json` in the state folder, for the application to follow.
"""

import json
from collections.abc import Callable
from typing import Any

from fleetward.base.errors import InvalidInputError
from fleetward.base.files import write_atomically
from fleetward.base.ids import parse_duration, render_duration
from fleetward.features.messaging.device import ApplyDesired
from fleetward.programs.agent.parts import Parts
from fleetward.programs.agent.session import Session

_FILE = "desired.json"


class Shadow:
    """Attributes are kept in sections: `agent` and `telemetry` are ours, the others the application's."""

    def __init__(self, parts: Parts, session: Session, *, about: dict[str, Any]) -> None:
        """Report `about` (section `agent`), and the interval that was desired before the restart."""
        self.on_interval: Callable[[float], None] = lambda _seconds: None
        self._parts = parts
        self._session = session
        self._path = parts.config.state_dir / _FILE
        self._state: dict[str, Any] = {
            "agent": about,
            "telemetry": {"interval": render_duration(parts.config.health_interval)},
        }
        session.apply_desired = self._apply
        self._follow(_read_desired(self._path.read_bytes()) if self._path.exists() else {})

    @property
    def interval_s(self) -> float:
        """Seconds between two reports of the agent's health."""
        text: str = self._state["telemetry"]["interval"]
        return parse_duration(text, what="interval").total_seconds()

    def start(self) -> None:
        self._session.report(self._state)

    def state_of(self, section: str, value: dict[str, Any] | None) -> None:
        """Report `value` as `section` from now on; None removes it."""
        changed = {name: found for name, found in self._state.items() if name != section}
        if value is not None:
            changed[section] = value
        self._state = changed
        self._session.report(self._state)

    def _apply(self, wanted: ApplyDesired) -> None:
        try:
            write_atomically(self._path, json.dumps(wanted.desired.state).encode())
        except OSError as error:
            self._parts.log.warning("desired_state_not_stored", reason=error.strerror)
            return
        self._follow(wanted.desired.state)
        self._session.report(self._state, desired_version=wanted.desired.version)
        self.on_interval(self.interval_s)

    def _follow(self, desired: dict[str, Any]) -> None:
        telemetry = desired.get("telemetry")
        text = telemetry.get("interval") if isinstance(telemetry, dict) else None
        if text is None:
            return
        try:
            interval = parse_duration(str(text), what="telemetry.interval")
        except InvalidInputError as error:
            self._parts.log.warning("desired_state_unusable", reason=error.message)
            return
        self._state = {**self._state, "telemetry": {"interval": render_duration(interval)}}


def _read_desired(content: bytes) -> dict[str, Any]:
    """Return what was desired; {} when the file is not what we wrote, for the platform will say it again."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
