"""The one place where an ability's failure ends.

Whatever an ability does for the agent, it does through here: hooks, timers, work and threads. What it raises
is told once, by its name, what it was doing and the error's code; then the ability is stopped, and after a
pause that grows with each failure made anew and told what it has missed. No other ability notices, nor the
agent.

Only errors end here: what ends a process (KeyboardInterrupt, SystemExit) passes.
"""

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from fleetward.base.errors import FleetwardError
from fleetward.programs.agent.abilities.ability import Ability, Reading
from fleetward.programs.agent.loop import Timer, Worker
from fleetward.programs.agent.parts import Parts
from fleetward.programs.agent.tools import Core, Tools
from fleetward.wire.command import MAX_ERROR_CHARS, Command, CommandResult

if TYPE_CHECKING:
    from fleetward.outside.mqtt.link import Refused
    from fleetward.outside.tls.client import TlsIdentity
    from fleetward.programs.agent.inbox import Note
    from fleetward.programs.agent.keys import DeviceKeys

T = TypeVar("T")
U = TypeVar("U")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
STEADY_S = 600.0
_MAX_DOUBLINGS = 16
_INTERNAL = "internal"
_FRAMES = 4

Finish = Callable[[CommandResult], None]


@dataclass(frozen=True)
class Failure:
    """Why an ability does not run now.

    Attributes:
        hook: what it was doing.
        code: of the error; `internal` for one nobody expects.
        count: failures since it last held for ten minutes.
    """

    hook: str
    code: str
    reason: str
    count: int


@dataclass
class _Seat:
    """An ability's place, which it keeps through failures."""

    kind: type[Ability]
    ability: Ability | None = None
    tools: Tools | None = None
    worker: Worker | None = None
    started_s: float = 0.0
    failure: Failure | None = None
    retry: Timer | None = None
    withheld: int = 0
    running: dict[int, Finish] = field(default_factory=dict)


@dataclass
class _Known:
    """What an ability that starts late must be told."""

    keys: "DeviceKeys | None" = None
    desired: dict[str, Any] | None = None
    identity: "TlsIdentity | None" = None
    session: str | None = None


class Edge:
    """All abilities, seen from the agent. For the loop's thread."""

    def __init__(
        self,
        kinds: Sequence[type[Ability]],
        parts: Parts,
        core: Core,
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Give each of `kinds` its place; nothing is started.

        Raises:
            ValueError: two of them bear one name, or answer one command.
        """
        self._parts, self._core, self._timer = parts, core, timer
        self._seats = [_Seat(kind) for kind in kinds]
        self._known = _Known()
        self._is_stopped = False
        self._last: dict[str, Any] = {}
        _refuse_twice("name", [kind.name for kind in kinds])
        _refuse_twice("command", [name for kind in kinds for name in kind.commands])

    @property
    def commands(self) -> frozenset[str]:
        """What operators can ask of the abilities."""
        return frozenset(name for seat in self._seats for name in seat.kind.commands)

    def start(self) -> None:
        for seat in self._seats:
            self._start(seat)

    def stop(self) -> None:
        """Stop all, the last started first; `status` goes on to say what they said before."""
        self._last = self.status()
        self._is_stopped = True
        for seat in reversed(self._seats):
            self._end(seat)

    def on_keys(self, keys: "DeviceKeys") -> None:
        self._known.keys = keys
        self._tell("on_keys", lambda ability: ability.on_keys(keys))

    def on_identity(self, identity: "TlsIdentity") -> None:
        self._known.identity = identity
        self._tell("on_identity", lambda ability: ability.on_identity(identity))

    def on_session(self, label: str) -> None:
        self._known.session = label
        self._tell("on_session", lambda ability: ability.on_session(label))

    def on_session_lost(self) -> None:
        """The connection is gone: an ability that starts meanwhile is not told of it."""
        self._known.session = None

    def on_refused(self, label: str, refused: "Refused") -> None:
        self._tell("on_refused", lambda ability: ability.on_refused(label, refused))

    def on_desired(self, desired: dict[str, Any]) -> None:
        self._known.desired = desired
        self._tell("on_desired", lambda ability: ability.on_desired(desired))

    def allows_session(self) -> bool:
        """Return whether none objects to a session; one that has failed does not."""
        answers = [self._ask(seat, "allows_session", _allows_session, instead=True) for seat in self._seats]
        return all(answers)

    def perform(self, command: Command, finish: Finish) -> None:
        """Have the command run by the ability that answers it; whatever that does, `finish` hears once."""
        seat = next(seat for seat in self._seats if command.name in seat.kind.commands)
        tools = seat.tools
        if tools is None:
            finish(CommandResult(ok=False, error=_describe(seat)))
            return
        seat.running[command.id] = finish

        def end(result: CommandResult) -> None:
            if seat.tools is tools and command.id in seat.running:
                finish(result)
                seat.running.pop(command.id, None)

        self._ask(seat, "perform", lambda ability: ability.perform(command, end), instead=None)

    def going_up(self, reading: Reading) -> Reading | None:
        """Return what the abilities leave of a reading; None when one withholds it."""
        left: Reading | None = reading
        for seat in self._seats:
            if left is not None:
                left = self._pass_up(seat, left)
        return left

    def from_application(self, note: "Note") -> "Note | None":
        """Return what the abilities leave for the platform of what the application said."""
        left: Note | None = note
        for seat in self._seats:
            if left is not None:
                left = self._hand_over(seat, left)
        return left

    def status(self) -> dict[str, Any]:
        """Return what each says of itself; of one that does not run, why."""
        if self._is_stopped:
            return self._last
        found = {}
        for seat in self._seats:
            said = self._ask(seat, "status", _status, instead=None)
            found[seat.kind.name] = _show(seat) if seat.ability is None else said
        return found

    def _tell(self, hook: str, call: Callable[[Ability], None]) -> None:
        for seat in self._seats:
            self._ask(seat, hook, call, instead=None)

    def _pass_up(self, seat: _Seat, reading: Reading) -> Reading | None:
        instead = None if seat.kind.is_guard else reading
        left = self._ask(seat, "going_up", lambda ability: ability.going_up(reading), instead=instead)
        if left is None and seat.ability is None:
            seat.withheld += 1
        return left

    def _hand_over(self, seat: _Seat, note: "Note") -> "Note | None":
        return self._ask(
            seat, "from_application", lambda ability: ability.from_application(note), instead=note
        )

    def _ask(self, seat: _Seat, hook: str, call: Callable[[Ability], T], *, instead: U) -> T | U:
        """Return what the ability answers; `instead` when it does not run, or raises."""
        ability, tools = seat.ability, seat.tools
        if ability is None or tools is None:
            return instead
        try:
            return call(ability)
        except Exception as error:  # noqa: BLE001 - the edge: told, and ends this ability alone
            self._fail(seat, tools, hook, error)
            return instead

    def _guard(self, seat: _Seat, tools: Tools, hook: str, call: Callable[[], object]) -> None:
        """Call in the name of the start that `tools` were given to, unless it has ended."""
        if seat.tools is not tools:
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(seat, tools, hook, error)

    def _start(self, seat: _Seat) -> None:
        seat.retry = None
        tools = Tools(
            self._parts,
            self._core,
            lambda hook, call: self._guard(seat, tools, hook, call),
            lambda: self._worker(seat),
        )
        seat.tools, seat.started_s = tools, self._timer()
        try:
            seat.ability = seat.kind(tools)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(seat, tools, "start", error)
            return
        self._ask(seat, "start", lambda ability: ability.start(), instead=None)
        self._catch_up(seat)
        if seat.failure is not None and seat.ability is not None:
            self._parts.log.info("ability_restarted", ability=seat.kind.name, failures=seat.failure.count)
            self._core.changed()

    def _catch_up(self, seat: _Seat) -> None:
        """Tell an ability that has started what was told before."""
        keys, desired = self._known.keys, self._known.desired
        identity, session = self._known.identity, self._known.session
        if desired is not None:
            self._ask(seat, "on_desired", lambda ability: ability.on_desired(desired), instead=None)
        if keys is not None:
            self._ask(seat, "on_keys", lambda ability: ability.on_keys(keys), instead=None)
        if identity is not None:
            self._ask(seat, "on_identity", lambda ability: ability.on_identity(identity), instead=None)
        if session is not None:
            self._ask(seat, "on_session", lambda ability: ability.on_session(session), instead=None)

    def _fail(self, seat: _Seat, tools: Tools, hook: str, error: Exception) -> None:
        is_first = seat.tools is tools
        if is_first:
            seat.failure = self._note_failure(seat, hook, error)
        failure = seat.failure or self._note_failure(seat, hook, error)
        pause_s = min(FIRST_PAUSE_S * 2 ** min(failure.count - 1, _MAX_DOUBLINGS), LONGEST_PAUSE_S)
        self._tell_failure(seat, hook, error, failures=failure.count, retry_in_s=pause_s)
        if not is_first:
            return  # it had ended already, in a call within this one
        self._end(seat)
        running, seat.running = seat.running, {}
        for finish in running.values():
            finish(CommandResult(ok=False, error=_describe(seat)))
        if not self._is_stopped:
            seat.retry = self._parts.loop.after(pause_s, lambda: self._start(seat))
        self._core.changed()
        self._core.connect_now()  # it may have been the one that objected

    def _note_failure(self, seat: _Seat, hook: str, error: Exception) -> Failure:
        has_held = self._timer() - seat.started_s >= STEADY_S
        before = 0 if seat.failure is None or has_held else seat.failure.count
        return Failure(hook, _code(error), _reason(error), before + 1)

    def _tell_failure(self, seat: _Seat, hook: str, error: Exception, **facts: object) -> None:
        self._parts.log.error(
            "ability_failed",
            ability=seat.kind.name,
            hook=hook,
            code=_code(error),
            reason=_reason(error),
            **({} if isinstance(error, FleetwardError) else {"where": _where(error)}),
            **facts,
        )

    def _end(self, seat: _Seat) -> None:
        """Stop an ability. What it left behind is dropped from here on."""
        ability, seat.ability, seat.tools = seat.ability, None, None
        if seat.retry is not None:
            seat.retry.cancel()
            seat.retry = None
        if ability is None:
            return
        try:
            ability.stop()
        except Exception as error:  # noqa: BLE001 - as above; it has ended all the same
            self._tell_failure(seat, "stop", error)

    def _worker(self, seat: _Seat) -> Worker:
        if seat.worker is None:
            seat.worker = Worker(self._parts.loop, seat.kind.name)
        return seat.worker


def _allows_session(ability: Ability) -> bool:
    return ability.allows_session()


def _status(ability: Ability) -> Any:
    return ability.status()


def _show(seat: _Seat) -> dict[str, Any]:
    failure = seat.failure
    if failure is None:
        return {"failed": "not started"}
    found: dict[str, Any] = {"failed": failure.hook, "code": failure.code, "reason": failure.reason}
    return {**found, "withheld": seat.withheld} if seat.kind.is_guard else found


def _describe(seat: _Seat) -> str:
    failure = seat.failure
    why = "it has not started" if failure is None else f"{failure.hook}: {failure.code}: {failure.reason}"
    return f"{seat.kind.name} does not run now: {why}"[:MAX_ERROR_CHARS]


def _code(error: Exception) -> str:
    return error.code if isinstance(error, FleetwardError) else _INTERNAL


def _reason(error: Exception) -> str:
    text = str(error)
    found = text if isinstance(error, FleetwardError) else f"{type(error).__name__}: {text}".rstrip(": ")
    return found[:MAX_ERROR_CHARS]


def _where(error: Exception) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"abilities: expected each {what} once, found {', '.join(twice)} twice")
