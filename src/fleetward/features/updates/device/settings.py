"""What can be set of a device's updates: the `firmware` section of its settings."""

from pathlib import Path
from typing import ClassVar

from fleetward.base.agent_config import Section
from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_duration, parse_id


class Firmware(Section, frozen=True):
    """How this device starts and updates its application.

    Attributes:
        slots_dir: holds the slots `a` and `b`.
        model: whose releases to follow.
        keys_file: firmware signing keys pinned at provisioning (`pinned.json`).
        tuf_root: first trusted TUF root metadata.
        command: starts the application; `{image}` and `{python}` are replaced.
        poll_interval: how often to ask for a new release.
        trial_timeout: how long a new release has to prove its health.
    """

    table: ClassVar[str] = "firmware"
    slots_dir: Path
    model: str
    keys_file: Path
    tuf_root: Path
    command: tuple[str, ...] = ("{python}", "{image}")
    poll_interval: str = "5m"
    trial_timeout: str = "2m"

    def check(self) -> None:
        if not self.command:
            raise InvalidInputError("firmware.command: expected a program, found an empty list")
        parse_id(self.model, what="firmware.model")
        parse_duration(self.poll_interval, what="firmware.poll_interval")
        parse_duration(self.trial_timeout, what="firmware.trial_timeout")
