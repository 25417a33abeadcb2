"""A sample of the faults that `./dev faults` does in full: an agent killed while it enrolls and renews."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent_faults import ForkedHost, NotRecoveredError, kill_enrolling, kill_renewing
from support.agent_platform import SmallPlatform, small_platform
from support.seeds import new_seed

_KILLS = 6


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallPlatform]:
    with small_platform(tmp_path_factory.mktemp("platform")) as started:
        yield started


def test_an_agent_killed_while_it_enrolls_enrolls(platform: SmallPlatform, tmp_path: Path) -> None:
    took_s = kill_enrolling(platform, tmp_path / "first", "enroll-first", None)
    dice = random.Random(new_seed())
    for number in range(_KILLS):
        delay_s = dice.uniform(0, took_s)
        kill_enrolling(platform, tmp_path / str(number), f"enroll-{number}", delay_s)


def test_an_agent_killed_while_it_renews_renews(platform: SmallPlatform, tmp_path: Path) -> None:
    kill_enrolling(platform, tmp_path / "host", "renew", None)
    host = ForkedHost(platform.where, "renew", tmp_path / "host")
    took_s = kill_renewing(host, None)
    dice = random.Random(new_seed())
    for _ in range(_KILLS):
        kill_renewing(host, dice.uniform(0, took_s))


def test_an_agent_without_its_key_is_found_not_to_recover(platform: SmallPlatform, tmp_path: Path) -> None:
    """Without this, the tests above might pass because nothing they look at can be wrong."""
    kill_enrolling(platform, tmp_path / "host", "lost", None)
    host = ForkedHost(platform.where, "lost", tmp_path / "host", patience_s=3)
    for key in (tmp_path / "host" / "keys").iterdir():
        key.unlink()
    with pytest.raises(NotRecoveredError):
        kill_renewing(host, 0.0)
