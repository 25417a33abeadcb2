"""The commands that concern the device as a whole; the others are the abilities'."""

import time
from collections.abc import Callable

from fleetward.base.clock import render_time
from fleetward.programs.agent.parts import Parts
from fleetward.wire.command import Command, CommandResult

Finish = Callable[[CommandResult], None]
NAMES = frozenset({"ping", "reboot", "renew-now"})


class Orders:
    """Each ends with a result; unknown ones are refused before."""

    def __init__(self, parts: Parts, *, reboot: Callable[[str], None], renew: Callable[[], str]) -> None:
        """Use `reboot` to end this run, `renew` to start a renewal; it returns why it cannot, or ""."""
        self._parts, self._reboot, self._renew = parts, reboot, renew

    def perform(self, command: Command, finish: Finish) -> None:
        """Do what `command` says and call `finish` with its result."""
        match command.name:
            case "ping":
                at = render_time(self._parts.clock.now())
                finish(CommandResult(ok=True, output={"at": at, "uptime_s": round(time.monotonic(), 1)}))
            case "renew-now":
                reason = self._renew()
                output = None if reason else "renewal started"
                finish(CommandResult(ok=not reason, output=output, error=reason))
            case "reboot":
                # Its result is sent after the restart: only then is it true.
                self._reboot("an operator commanded it")
