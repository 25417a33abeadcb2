"""A sample of the faults that `./dev faults` does in full: a device that dies anywhere in an update."""

import random
import shutil

import pytest

from support.seeds import new_seed
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

_CALLS = 4
_MOMENTS = 20
_CUTS = 200

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), image_bytes=60_000)


def test_a_kill_at_a_storage_call_is_recovered_from(world: World) -> None:
    points = list_kill_points(world)
    assert len(points) > 50
    for call, number in random.Random(new_seed()).sample(points, _CALLS):
        assert kill_at_call(world, call, number)
        assert find_flaw(world, world.run) == "", (call, number)
        assert find_flaw_after_recovery(world, world.run) == "", (call, number)


def test_a_kill_at_any_moment_is_recovered_from(world: World) -> None:
    life_s, kills, dice = measure_life(world), 0, random.Random(new_seed())
    for _ in range(_MOMENTS):
        kills += kill_at_moment(world, dice.uniform(0, life_s))
        assert find_flaw(world, world.run) == ""
        assert find_flaw_after_recovery(world, world.run) == ""
    assert kills > _MOMENTS / 4


def test_a_power_cut_on_a_lossy_disk_is_recovered_from(world: World) -> None:
    outcomes = list(cut_power(world, record_life(world), cuts=_CUTS, seed=new_seed(), recover_every=5))
    assert len(outcomes) == _CUTS
    assert [(case, flaw) for case, flaw in outcomes if flaw] == []


def test_the_lossy_disk_finds_a_missing_fsync(world: World) -> None:
    """Without this, the test above might pass because its disk loses nothing."""
    ops = record_life(world, planted_bug="nofsync")
    outcomes = cut_power(world, ops, cuts=_CUTS, seed=new_seed(), recover_every=_CUTS)
    assert any(flaw.startswith("unbootable") for _, flaw in outcomes)
