"""`./dev siege [NAME…] [--seconds N] [--json]`: attacks a platform under honest load and prints what it did.

A platform of its own with 200 honest devices and 20 operators' calls a second is first measured in calm, then
under each attack in turn. Held against it: nobody honest is refused; of their waits the 99th percentile stays
within five times that of calm and the worst under a second; a minute later the memory is back within a fifth.
Ends with 1 where one of these does not hold.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.rig import Rig, children_of, platform, raise_file_limit
from bench.siege.attacks import ATTACKS, Target, besiege
from bench.siege.honest import DEVICES, Honest, Tally
from bench.streams import add_viewer

_OWNED = 7
_KINDS = ("operator", "EST", "return", "QoS 1", "QoS 2")
_SECONDS = 20.0
_SETTLE_S = 5.0
_REST_S = 60.0
_TIMES_CALM = 5.0
_LONGEST_S = 1.0
_SHARE_BACK = 1.2
_MS = 1_000
_NAMED = 3


@dataclass(frozen=True)
class Outcome:
    """What one attack did to the honest.

    Attributes:
        p99, worst: seconds by kind.
        slowest: what was asked for to the longest time anybody waited for it, in seconds.
        refused: how often an honest one was refused, by kind and reason.
        peak, rest: bytes resident, platform and broker, while it went on and at most a minute later.
        done: what the attacker got done.
    """

    attack: str
    p99: dict[str, float]
    worst: dict[str, float]
    slowest: dict[str, float]
    refused: dict[str, int]
    peak: int
    rest: int
    done: dict[str, int]

    def faults(self, calm: "Outcome") -> list[str]:
        """Return what does not hold beside the calm before."""
        found = [f"refused {count} times, {what}" for what, count in self.refused.items()]
        for kind, wait in self.p99.items():
            if wait > (most := _TIMES_CALM * calm.p99[kind]):
                found.append(f"{kind}: p99 {wait * _MS:.0f} ms, expected {most * _MS:.0f} or less")
            if self.worst[kind] > _LONGEST_S:
                found.append(f"{kind}: worst {self.worst[kind] * _MS:.0f} ms, expected {_MS} or less")
        if self.rest > _SHARE_BACK * calm.rest:
            found.append(f"memory {self.rest / 1e6:.0f} MB after a minute, in calm {calm.rest / 1e6:.0f}")
        return found


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="./dev siege", description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ATTACKS)}; else all")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="how long each goes on")
    parser.add_argument("--json", action="store_true", help="a line for each, for machines")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in ATTACKS]
    if unknown:
        parser.error(f"attack {unknown[0]!r}: expected one of {', '.join(ATTACKS)}")
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="fleetward-siege-") as folder, platform(Path(folder)) as rig:
        calm, *outcomes = _siege(rig, asked.names or list(ATTACKS), asked.seconds, as_json=asked.json)
    if not asked.json:
        _show(calm, outcomes)
    sys.exit(1 if any(one.faults(calm) for one in outcomes) else 0)


def _siege(rig: Rig, names: list[str], seconds: float, *, as_json: bool) -> list[Outcome]:
    """Return what the calm was like, then each attack; each is told of as soon as it is over."""
    devices = rig.enroll(DEVICES, prefix="siege")
    target = Target(rig.port_base, rig.ca_file, tuple(rig.enroll(_OWNED, prefix="owned")), add_viewer(rig))
    honest = Honest(rig, devices)
    with honest.running():
        time.sleep(_SETTLE_S)
        honest.take()
        time.sleep(seconds)
        calm = _judge("calm", honest.take(), _resident(rig), _resident(rig), {})
        found = [calm]
        _tell(calm, calm, as_json=as_json)
        for name in names:
            found.append(_attack(name, rig, target, honest, calm, seconds))
            _tell(found[-1], calm, as_json=as_json)
    return found


def _tell(one: Outcome, calm: Outcome, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**vars(one), "faults": one.faults(calm)}), flush=True)
        return
    done = ", ".join(f"{what} {count}" for what, count in one.done.items())
    print(f"# {one.attack}: {done or 'nothing'}", file=sys.stderr, flush=True)
    for what, wait in sorted(one.slowest.items(), key=lambda found: -found[1])[:_NAMED]:
        print(f"#   {wait * _MS:.0f} ms at most: {what}", file=sys.stderr, flush=True)
    for fault in one.faults(calm):
        print(f"#   {fault}", file=sys.stderr, flush=True)


def _attack(name: str, rig: Rig, target: Target, honest: Honest, calm: Outcome, seconds: float) -> Outcome:
    context = multiprocessing.get_context("spawn")
    stop, (told, telling) = context.Event(), context.Pipe(duplex=False)
    attacker = context.Process(target=besiege, args=(name, target, stop, telling))
    honest.take()
    attacker.start()
    until, peak = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        time.sleep(0.2)
        peak = max(peak, _resident(rig))
    stop.set()
    done = told.recv() if told.poll(_REST_S) else {"did not end": 1}
    attacker.join(_SETTLE_S)
    if attacker.is_alive():
        attacker.kill()
    time.sleep(_SETTLE_S)
    tally = honest.take()
    rested = time.monotonic() + _REST_S
    while (rest := _resident(rig)) > _SHARE_BACK * calm.rest and time.monotonic() < rested:
        time.sleep(1.0)
    return _judge(name, tally, peak, rest, done)


def _judge(name: str, tally: Tally, peak: int, rest: int, done: dict[str, int]) -> Outcome:
    p99, worst = ({kind: tally.wait(kind, share) for kind in _KINDS} for share in (0.99, 1.0))
    slowest = {what: max(waits) for what, waits in tally.asked.items()}
    return Outcome(name, p99, worst, slowest, dict(tally.refused), peak, rest, done)


def _resident(rig: Rig) -> int:
    """Return VmRSS of the platform and what it started, in bytes."""
    return sum(_resident_of(pid) for pid in (rig.process.pid, *children_of(rig.process.pid)))


def _resident_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _show(calm: Outcome, outcomes: list[Outcome]) -> None:
    table = Table(box=None, header_style="bold", title="ms, 99th percentile and worst; MB, highest and after")
    for heading in ("attack", *_KINDS, "refused", "MB"):
        table.add_column(heading, justify="left" if heading == "attack" else "right")
    for one in (calm, *outcomes):
        waits = (f"{one.p99[kind] * _MS:.0f} {one.worst[kind] * _MS:.0f}" for kind in _KINDS)
        memory = f"{one.peak / 1e6:.0f} {one.rest / 1e6:.0f}"
        table.add_row(one.attack, *waits, str(sum(one.refused.values())), memory)
    Console().print(table)


if __name__ == "__main__":  # the attackers' processes import this module too
    main()
