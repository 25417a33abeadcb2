"""The commands an operator can give this device. Each ends with a result; unknown ones are refused before."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fleetward.base.clock import render_time
from fleetward.programs.agent.parts import Parts
from fleetward.wire.command import Command, CommandResult

Finish = Callable[[CommandResult], None]
NAMES = frozenset({"ping", "reboot", "attest-now", "renew-now", "report", "update-now"})


@dataclass(frozen=True)
class Abilities:
    """What the agent can do when it is asked.

    Attributes:
        attest: starts an attestation and calls back with "" or why it failed; None without a TPM.
        renew: starts a renewal; returns why it cannot, or "".
        update: looks for a release; None where the device does not update itself.
        report: sends health and shadow now, and returns the health.
        reboot: ends this run.
    """

    attest: Callable[[Callable[[str], None]], None] | None
    renew: Callable[[], str]
    update: Callable[[], None] | None
    report: Callable[[], dict[str, Any]]
    reboot: Callable[[], None]


def perform(parts: Parts, abilities: Abilities, command: Command, finish: Finish) -> None:
    """Do what `command` says and call `finish` with its result, now or later."""
    match command.name:
        case "ping":
            at = render_time(parts.clock.now())
            finish(CommandResult(ok=True, output={"at": at, "uptime_s": round(time.monotonic(), 1)}))
        case "report":
            finish(CommandResult(ok=True, output=abilities.report()))
        case "renew-now":
            reason = abilities.renew()
            finish(CommandResult(ok=not reason, output=None if reason else "renewal started", error=reason))
        case "attest-now" if abilities.attest is not None:
            abilities.attest(lambda reason: finish(CommandResult(ok=not reason, error=reason)))
        case "attest-now":
            finish(CommandResult(ok=False, error="this device has no TPM to attest with"))
        case "update-now" if abilities.update is not None:
            abilities.update()
            finish(CommandResult(ok=True, output="looking for a release"))
        case "update-now":
            finish(CommandResult(ok=False, error="this device does not update itself"))
        case "reboot":
            # Its result is sent after the restart: only then is it true.
            abilities.reboot()
        case name:
            finish(CommandResult(ok=False, error=f"this device has no command {name}"))
