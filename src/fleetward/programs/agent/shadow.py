"""The device's shadow: what it reports of itself, and the desired state that the platform sends.

What is reported stands in sections: `agent` is ours, some are abilities', the others the application's. The
whole desired state also goes to `desired.json` in the state folder, for the application to follow.
"""

import json
from typing import Any

from fleetward.base.files import write_atomically
from fleetward.features.messaging.device import ApplyDesired
from fleetward.programs.agent.edge import Edge
from fleetward.programs.agent.parts import Parts
from fleetward.programs.agent.session import Session

_FILE = "desired.json"


class Shadow:
    """Carries desired state to the abilities and their sections to the platform."""

    def __init__(self, parts: Parts, session: Session, edge: Edge, *, about: dict[str, Any]) -> None:
        """Report `about` as section `agent`; nothing before `start`."""
        self._parts = parts
        self._session = session
        self._edge = edge
        self._path = parts.config.state_dir / _FILE
        self._state: dict[str, Any] = {"agent": about}
        self._is_held = True
        session.apply_desired = self._apply

    def start(self) -> None:
        """Tell the abilities what was desired before the restart, then report."""
        self._edge.on_desired(_read_desired(self._path.read_bytes()) if self._path.exists() else {})
        self._is_held = False
        self._session.report(self._state)

    def state_of(self, section: str, value: dict[str, Any] | None) -> None:
        """Report `value` as `section` from now on; None removes it."""
        changed = {name: found for name, found in self._state.items() if name != section}
        if value is not None:
            changed[section] = value
        self._state = changed
        if not self._is_held:
            self._session.report(self._state)

    def _apply(self, wanted: ApplyDesired) -> None:
        try:
            write_atomically(self._path, json.dumps(wanted.desired.state).encode())
        except OSError as error:
            self._parts.log.warning("desired_state_not_stored", reason=error.strerror)
            return
        # One report for all that follows from it, with the version it answers.
        self._is_held = True
        self._edge.on_desired(wanted.desired.state)
        self._is_held = False
        self._session.report(self._state, desired_version=wanted.desired.version)


def _read_desired(content: bytes) -> dict[str, Any]:
    """Return what was desired; {} when the file is not what we wrote, for the platform will say it again."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
