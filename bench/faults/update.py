"""A device killed, or without power, anywhere in an update: boot stage, agent's update machine and slots."""

import random
from collections.abc import Iterator
from pathlib import Path

from bench.faults.outcome import Outcome
from support.update_faults import (
    World,
    cut_power,
    find_flaw,
    find_flaw_after_recovery,
    kill_at_call,
    kill_at_moment,
    list_kill_points,
    make_world,
    measure_life,
    record_life,
)

_IMAGE_BYTES = 60_000


def kill_updates(folder: Path, seed: int, count: int) -> Iterator[Outcome]:
    """Kill a device at every storage call of an update, in random order, then at random moments."""
    world = make_world(folder, image_bytes=_IMAGE_BYTES)
    points = list_kill_points(world)
    random.Random(seed).shuffle(points)
    for call, number in points[:count]:
        is_killed = kill_at_call(world, call, number)
        case = f"killed at {call} number {number}"
        flaw = _flaw(world) if is_killed else "lived on: its calls are not the same each time"
        yield Outcome(case, flaw, {"kills at storage calls of an update": 1})
    life_s = measure_life(world)
    for number in range(count - len(points)):
        delay_s = random.Random(f"{seed}-{number}").uniform(0, life_s)
        is_killed = kill_at_moment(world, delay_s)
        counted = "kills at moments of an update" if is_killed else "updates that were faster than the kill"
        yield Outcome(f"killed after {delay_s * 1000:.1f} ms", _flaw(world), {counted: 1})


def cut_updates(folder: Path, seed: int, count: int) -> Iterator[Outcome]:
    """Cut the power of a device whose disk loses what was not synced, `count` times all over an update."""
    world = make_world(folder, image_bytes=_IMAGE_BYTES)
    for case, flaw in cut_power(world, record_life(world), cuts=count, seed=str(seed)):
        yield Outcome(case, flaw, {"power cuts in an update": 1})


def _flaw(world: World) -> str:
    return find_flaw(world, world.run) or find_flaw_after_recovery(world, world.run)
