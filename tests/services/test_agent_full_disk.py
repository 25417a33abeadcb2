"""A device whose disk is full to the last block: it says so, loses nothing, goes on when there is room."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetward.base.agent_config import SoftwareKeys
from fleetward.features.pki import service as pki
from support.agent_platform import AgentHost, SmallPlatform, small_platform, wait_for
from support.small_disk import SmallDisk, small_disk

_names = (f"full-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallPlatform]:
    with small_platform(tmp_path_factory.mktemp("platform")) as started:
        yield started


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """What the agent remembers and its keys lie here; its log and settings do not."""
    with small_disk(tmp_path / "state", kib=4096) as made:
        yield made


@pytest.fixture
def host(platform: SmallPlatform, disk: SmallDisk, tmp_path: Path) -> Iterator[AgentHost]:
    made = AgentHost(platform.where, next(_names), tmp_path, SoftwareKeys(disk.path / "keys"))
    yield made
    made.kill()


def wait_connected(host: AgentHost) -> None:
    wait_for(lambda: host.status.get("session", {}).get("connected"), "a session")


def certificates(platform: SmallPlatform, host: AgentHost) -> list[Any]:
    with platform.db.read() as tx:
        return pki.list_certificates(tx, host.device_id)


def assert_no_traceback(host: AgentHost) -> None:
    assert "Traceback" not in (host.folder / "agent.log").read_text()


def test_a_device_that_starts_on_a_full_disk_enrolls_when_there_is_room(
    platform: SmallPlatform, host: AgentHost, disk: SmallDisk
) -> None:
    host.give_claim(platform.add_device(host.device_id))
    disk.fill()
    host.start()
    wait_for(lambda: (host.folder / "agent.log").read_text().count('"level": "error"') >= 1, "its complaint")
    assert host.process is not None
    assert host.process.poll() is None
    assert_no_traceback(host)
    disk.free()
    wait_connected(host)
    assert len(certificates(platform, host)) == 1
    assert_no_traceback(host)


def test_a_disk_that_fills_costs_no_session_no_key_and_no_certificate(
    platform: SmallPlatform, host: AgentHost, disk: SmallDisk
) -> None:
    host.give_claim(platform.add_device(host.device_id, lifetime_s=40))
    host.start()
    wait_connected(host)
    complaints = ("identity_storage_failed", "enrollment_attempt_failed")

    def complains() -> bool:
        disk.fill()  # again and again: the queue gives up its reserve so that others have room
        return any(host.is_logged(one) for one in complaints)

    wait_for(complains, "its complaint")
    assert_no_traceback(host)
    disk.free()
    wait_for(lambda: len(certificates(platform, host)) >= 2, "a renewed certificate")
    wait_connected(host)
    assert_no_traceback(host)


def test_an_agent_killed_on_a_full_disk_comes_back_as_it_was(
    platform: SmallPlatform, host: AgentHost, disk: SmallDisk
) -> None:
    host.give_claim(platform.add_device(host.device_id))
    host.start()
    wait_connected(host)
    disk.fill()
    before = (host.config.state_dir / "enrollment.json").read_bytes()
    host.kill()
    host.start()
    wait_for(lambda: [one["event"] for one in host.log_events()].count("session_opened") == 2, "a session")
    assert (host.config.state_dir / "enrollment.json").read_bytes() == before
    host.say({"stream": "temp", "value": 1})
    wait_for(lambda: host.is_logged("queue_trouble"), "its complaint")
    disk.free()
    wait_for(lambda: platform.published(f"d/{host.device_id}/t/temp"), "the reading")
    assert_no_traceback(host)
