"""A made-up ability that notes every hook and does what its settings say: raises, withholds, waits."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from fleetward.base.agent_config import Section
from fleetward.base.errors import InvalidInputError, UnavailableError
from fleetward.outside.mqtt.link import Refused
from fleetward.outside.tls.client import TlsIdentity
from fleetward.programs.agent.abilities.ability import Ability, Reading
from fleetward.programs.agent.abilities.all import ABILITIES
from fleetward.programs.agent.inbox import Measured, Note
from fleetward.programs.agent.keys import DeviceKeys
from fleetward.programs.agent.run import run_agent
from fleetward.programs.agent.tools import Tools
from fleetward.wire.command import Command, CommandResult


class ProbeSettings(Section, frozen=True):
    """What the probe is to do wrong.

    Attributes:
        raises: hooks that raise.
        is_once: whether they raise the first time only; a file in the state folder remembers it.
    """

    table: ClassVar[str] = "probe"
    raises: tuple[str, ...] = ()
    is_once: bool = False

    def check(self) -> None:
        if "nothing" in self.raises:
            raise InvalidInputError("probe.raises: expected hooks, found nothing")


class Probe(Ability):
    """Notes every hook in the log as `probed`."""

    name = "probe"
    section = ProbeSettings
    commands = frozenset({"probe-now"})

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._settings = tools.config.find(ProbeSettings) or ProbeSettings()

    def start(self) -> None:
        self._probe("start")
        self.tools.after(0.05, lambda: self._probe("timer"))
        self.tools.submit(lambda: self._probe("work"), lambda _: self._probe("done"))
        self.tools.run_thread("probe", lambda: self._probe("thread"))
        self.tools.core.state_of("probe", {"is": "here"})

    def stop(self) -> None:
        self._probe("stop")

    def on_keys(self, keys: DeviceKeys) -> None:
        self._probe("on_keys", keys.store.tier)

    def on_identity(self, identity: TlsIdentity) -> None:
        self._probe("on_identity", identity.label)

    def on_session(self, label: str) -> None:
        self._probe("on_session", label)

    def on_refused(self, label: str, refused: Refused) -> None:
        self._probe("on_refused", f"{label} {refused.failure.reason}")

    def on_desired(self, desired: dict[str, Any]) -> None:
        self._probe("on_desired", str(desired))

    def allows_session(self) -> bool:
        self._probe("allows_session")
        return True

    def perform(self, command: Command, finish: Callable[[CommandResult], None]) -> None:
        self._probe("perform", command.name)
        finish(CommandResult(ok=True, output="probed"))

    def going_up(self, reading: Reading) -> Reading | None:
        if reading.name == "secret":
            return None
        self._probe("going_up", reading.name)
        return Reading(reading.kind, reading.name, "coarse") if reading.name == "fine" else reading

    def from_application(self, note: Note) -> Note | None:
        self._probe("from_application")
        return None if isinstance(note, Measured) and note.stream == "mine" else note

    def status(self) -> str:
        self._probe("status")
        return "well"

    def _probe(self, hook: str, seen: str = "") -> None:
        if hook in self._settings.raises:
            mark = self.tools.config.state_dir / f"raised-{hook}"
            if not (self._settings.is_once and mark.exists()):
                mark.touch()
                raise UnavailableError(f"{hook}: expected the probe to hold, found it told to raise")
        self.tools.log.info("probed", hook=hook, seen=seen)


def main() -> None:
    """Run an agent with the probe before all its other abilities."""
    sys.exit(run_agent(Path(sys.argv[1]), abilities=(Probe, *ABILITIES)))


if __name__ == "__main__":
    main()
