"""A platform whose server and broker die by SIGKILL under load: it still has what it acknowledged.

Each round: devices publish at QoS 1 and an operator changes state; something dies and comes back; then
everything that was acknowledged is asked for.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

from bench.faults.load import Load, Operator, Publisher
from bench.faults.outcome import Outcome
from bench.rig import Rig, wait_for
from fleetward.base.errors import FleetwardError
from support.platform import Platform, running_platform

_PUBLISHERS = 2
_VICTIMS = ("server", "nats-server", "server and nats-server")
_LONGEST_LOAD_S = 3.0
_RECOVERY_S = 60.0
_DRAIN_S = 60.0
_AFTERWARDS_S = 1.0


def kill_platforms(folder: Path, seed: int, count: int) -> Iterator[Outcome]:
    """Kill server, broker and both in turn, `count` times, each under load."""
    dice = random.Random(seed)
    with running_platform(folder) as platform:
        rig = Rig(folder, platform.port_base, platform.process)
        devices = rig.enroll(_PUBLISHERS + 1)
        for number in range(count):
            publishers = [Publisher(rig, device, f"r{number}") for device in devices[:_PUBLISHERS]]
            operator = Operator(platform, devices[-1].id, f"r{number}")
            load = [*publishers, operator]
            for one in load:
                one.start()
            victim = _VICTIMS[number % len(_VICTIMS)]
            time.sleep(dice.uniform(0.5, _LONGEST_LOAD_S))
            _kill(platform, victim)
            flaw = _await_progress(load)
            time.sleep(_AFTERWARDS_S)
            for one in load:
                one.stop()
            counted = {
                f"kills of {victim}": 1,
                "messages acknowledged": sum(one.acknowledged_count for one in publishers),
                "state changes acknowledged": operator.acknowledged_count,
            }
            yield Outcome(f"round {number}: {victim} killed", flaw or _find_loss(load), counted)


def _kill(platform: Platform, victim: str) -> None:
    if victim == "nats-server":
        platform.kill_broker()
        return
    platform.kill(with_broker=victim != "server")
    platform.start()


def _await_progress(load: list[Load]) -> str:
    """Return "" once everyone was acknowledged something new; else what was not served again."""
    before = [one.acknowledged_count for one in load]
    try:
        wait_for(
            lambda: all(one.acknowledged_count > old for one, old in zip(load, before, strict=True)),
            _RECOVERY_S,
        )
    except TimeoutError:
        return f"nothing acknowledged for {_RECOVERY_S:.0f} s after the kill"
    return ""


def _find_loss(load: list[Load]) -> str:
    """Return what was acknowledged and is not there after all that is under way has arrived."""
    deadline_s = time.monotonic() + _DRAIN_S
    while True:
        try:
            losses = [loss for one in load if (loss := one.find_loss())]
        except FleetwardError as error:
            losses = [str(error)]
        if not losses or time.monotonic() > deadline_s:
            return "; ".join(losses)
        time.sleep(0.5)
