"""Abilities that break where a test says, and an edge around them in a loop that the test turns."""

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, cast

from fleetward.base.agent_config import AgentConfig, SoftwareKeys
from fleetward.base.errors import UnavailableError
from fleetward.outside.http.device import DeviceHttp
from fleetward.outside.mqtt.link import Refused
from fleetward.outside.tls.client import TlsFailure, TlsIdentity
from fleetward.programs.agent.abilities.ability import Ability, Reading
from fleetward.programs.agent.clock import DeviceClock
from fleetward.programs.agent.edge import Edge
from fleetward.programs.agent.inbox import Logged, Note
from fleetward.programs.agent.keys import DeviceKeys
from fleetward.programs.agent.log import AgentLog
from fleetward.programs.agent.loop import Loop
from fleetward.programs.agent.parts import Parts
from fleetward.programs.agent.tools import Tools
from fleetward.wire.command import Command, CommandResult
from fleetward.wire.mqtt_topics import TopicKind
from support.clock import ManualClock

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
READING = Reading(TopicKind.TELEMETRY, "temp", 21.5)
NOTE = Logged("door opened")
KEYS = cast("DeviceKeys", object())
IDENTITY = TlsIdentity("device-1", lambda _context: None)
REFUSED = Refused(TlsFailure("no"), is_policy=True)
HOOKS = (
    "__init__", "start", "on_keys", "on_identity", "on_session", "on_refused", "on_desired", "allows_session",
    "perform", "going_up", "from_application", "status", "timer", "post", "work", "done", "thread",
)  # fmt: skip


@dataclass
class RecordingCore:
    """What an agent is to its abilities, noting what it was asked."""

    asked: list[str] = field(default_factory=list)
    is_degraded: bool = False
    queued_bytes: int = 0

    def identity(self) -> TlsIdentity | None:
        return None

    def put(self, reading: Reading) -> None:
        self.asked.append(f"put {reading.name}")

    def state_of(self, section: str, value: dict[str, Any] | None) -> None:
        self.asked.append(f"state {section} {value}")

    def connect_now(self) -> None:
        self.asked.append("connect")

    def reboot(self, reason: str) -> None:
        self.asked.append(f"reboot {reason}")

    def changed(self) -> None:
        self.asked.append("changed")


class Fragile(Ability):
    """Raises in the hooks of `breaks`; `seen` notes which it was called in."""

    name = "fragile"
    commands = frozenset({"break-now", "never-ends"})
    breaks: ClassVar[set[str]] = set()
    error: ClassVar[Exception] = UnavailableError("chip: expected an answer, found none")
    seen: ClassVar[list[str]] = []

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._note("__init__")

    def _note(self, hook: str) -> None:
        self.seen.append(hook)
        if hook in self.breaks:
            raise self.error

    def start(self) -> None:
        self._note("start")
        self.tools.after(0.0, lambda: self._note("timer"))
        self.tools.post(lambda: self._note("post"))
        self.tools.submit(lambda: self._note("work"), lambda _: self._note("done"))
        self.tools.run_thread("fragile", lambda: self._note("thread"))

    def stop(self) -> None:
        self._note("stop")

    def on_keys(self, keys: DeviceKeys) -> None:
        assert keys is KEYS
        self._note("on_keys")

    def on_identity(self, identity: TlsIdentity) -> None:
        assert identity is IDENTITY
        self._note("on_identity")

    def on_session(self, label: str) -> None:
        assert label == "device-1"
        self._note("on_session")

    def on_refused(self, label: str, refused: Refused) -> None:
        assert (label, refused) == ("device-1", REFUSED)
        self._note("on_refused")

    def on_desired(self, desired: dict[str, Any]) -> None:
        assert desired == {"lamp": "on"}
        self._note("on_desired")

    def allows_session(self) -> bool:
        self._note("allows_session")
        return False

    def perform(self, command: Command, finish: Callable[[CommandResult], None]) -> None:
        self._note("perform")
        if command.name == "break-now":
            finish(CommandResult(ok=True))
            finish(CommandResult(ok=False, error="twice"))

    def going_up(self, reading: Reading) -> Reading | None:
        self._note("going_up")
        return Reading(reading.kind, reading.name, "changed")

    def from_application(self, note: Note) -> Note | None:
        self._note("from_application")
        return Logged("changed") if note is NOTE else note

    def status(self) -> str:
        self._note("status")
        return "well"


class Sturdy(Fragile):
    """Another ability, which is well, whatever befalls the first."""

    name = "sturdy"
    commands = frozenset({"hold"})
    breaks: ClassVar[set[str]] = set()
    seen: ClassVar[list[str]] = []

    def allows_session(self) -> bool:
        super().allows_session()
        return True

    def going_up(self, reading: Reading) -> Reading | None:
        super().going_up(reading)
        return reading

    def from_application(self, note: Note) -> Note | None:
        super().from_application(note)
        return note


class Guard(Fragile):
    """As the first, but what it could not look at stays on the device."""

    is_guard = True


@dataclass
class Rig:
    """An edge with abilities, in a loop that the test turns."""

    edge: Edge
    core: RecordingCore
    loop: Loop
    out: io.StringIO
    now_s: list[float]
    results: list[CommandResult] = field(default_factory=list)

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [one for one in self.logged if one["event"] == "ability_failed"]

    def turn(self, until: Callable[[], bool]) -> None:
        """Run the loop until something is so, for at most ten seconds."""
        deadline_s = time.monotonic() + 10

        def look() -> None:
            if until() or time.monotonic() > deadline_s:
                self.loop.stop()
            else:
                self.loop.after(0.002, look)

        look()
        self.loop.run()
        self.loop._is_stopping = False
        assert until()

    def retry_now(self) -> None:
        """Let the pause after a failure be over."""
        [seat] = [one for one in self.edge._seats if one.retry is not None]
        retry = seat.retry
        assert retry is not None
        retry.cancel()
        retry.call()

    def use_all(self) -> None:
        """Call every hook once."""
        edge = self.edge
        edge.start()
        edge.on_desired({"lamp": "on"})
        edge.on_keys(KEYS)
        edge.on_identity(IDENTITY)
        edge.on_session("device-1")
        edge.on_refused("device-1", REFUSED)
        edge.allows_session()
        edge.perform(Command(1, "break-now", {}, NOW), self.results.append)
        edge.going_up(READING)
        edge.from_application(NOTE)
        edge.status()


def make_rig(folder: Path, *kinds: type[Ability]) -> Rig:
    for kind in (Fragile, Sturdy):
        kind.breaks.clear()
        kind.seen.clear()
    Fragile.error = UnavailableError("chip: expected an answer, found none")
    config = AgentConfig(
        device_id="cam-1", server="https://localhost:1", mqtt="localhost:1", ca_file=folder / "root.pem",
        state_dir=folder, keys=SoftwareKeys(folder / "keys"),
    )  # fmt: skip
    out, loop, now_s = io.StringIO(), Loop(), [1000.0]
    clock = DeviceClock(ManualClock(NOW))
    http = DeviceHttp(config.server, config.ca_file)
    parts = Parts(config, clock, loop, AgentLog(clock, out=out), http)
    core = RecordingCore()
    return Rig(Edge(kinds, parts, core, timer=lambda: now_s[0]), core, loop, out, now_s)
