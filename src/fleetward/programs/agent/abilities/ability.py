"""What an ability of the agent is.

A new one is a class here in a file or folder of its own, and a line in `all.ABILITIES`. The agent makes it
and calls its hooks, each in the loop's thread; a hook that has nothing to do is left out. Libraries that only
this ability needs are imported where they are first used: a device that does not use it does not pay for it.

A hook that raises ends this ability and no other: the agent tells of it, and after a pause makes it anew
(`programs/agent/edge.py`). So an ability keeps nothing in memory that must outlive it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fleetward.base.agent_config import Section
from fleetward.wire.mqtt_topics import TopicKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetward.outside.mqtt.link import Refused
    from fleetward.outside.tls.client import TlsIdentity
    from fleetward.programs.agent.inbox import Note
    from fleetward.programs.agent.keys import DeviceKeys
    from fleetward.programs.agent.tools import Tools
    from fleetward.wire.command import Command, CommandResult


@dataclass(frozen=True)
class Reading:
    """What goes up: telemetry of stream `name`, metrics or a log line."""

    kind: TopicKind
    name: str
    value: Any


class Ability:
    """Does nothing; an ability overrides what concerns it.

    Attributes:
        name: in the status file, in logs and in events.
        section: its table of the settings file, None when nothing can be set.
        commands: which commands of operators come to `perform`.
        is_guard: whether what its `going_up` could not look at stays on the device. A guard that has failed
            withholds; any other that has failed is passed by.
    """

    name: ClassVar[str]
    section: ClassVar[type[Section] | None] = None
    commands: ClassVar[frozenset[str]] = frozenset()
    is_guard: ClassVar[bool] = False

    def __init__(self, tools: "Tools") -> None:
        self.tools = tools

    def start(self) -> None:
        """Begin. Neither keys nor identity are known; they come by the hooks below, also after a restart."""

    def stop(self) -> None:
        """Let go of what `tools` did not give: within two seconds, for the agent may be ending."""

    def on_keys(self, keys: "DeviceKeys") -> None:
        """The key store was opened."""

    def on_identity(self, identity: "TlsIdentity") -> None:
        """The device has a certificate, or a new one."""

    def on_session(self, label: str) -> None:
        """The broker accepted the certificate `label`."""

    def on_refused(self, label: str, refused: "Refused") -> None:
        """The broker did not accept the certificate `label`."""

    def on_desired(self, desired: dict[str, Any]) -> None:
        """The whole desired state, at the start (as far as it was stored) and after each change."""

    def allows_session(self) -> bool:
        """Return whether a session may be tried now; call `tools.connect_now` when that changes."""
        return True

    def perform(self, command: "Command", finish: "Callable[[CommandResult], None]") -> None:
        """Run one of `commands` and call `finish` with its result, now or later."""

    def going_up(self, reading: Reading) -> Reading | None:
        """Return what goes up in place of `reading`, None to withhold it."""
        return reading

    def from_application(self, note: "Note") -> "Note | None":
        """Return what the abilities after this one, and the platform, get of `note`; None to keep it."""
        return note

    def status(self) -> Any:
        """Return what the status file says under `name`."""
        return None
