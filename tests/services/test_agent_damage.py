"""An agent whose files were damaged: it names the file and the way out, and what can be made anew is."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent_platform import AgentHost, SmallPlatform, small_platform, wait_for

_names = (f"hurt-{number}" for number in itertools.count(1))
JUNK = b"\xff junk"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallPlatform]:
    with small_platform(tmp_path_factory.mktemp("platform")) as started:
        yield started


@pytest.fixture
def host(platform: SmallPlatform, tmp_path: Path) -> Iterator[AgentHost]:
    """A device that was enrolled and is switched off."""
    made = AgentHost(platform.where, next(_names), tmp_path)
    made.give_claim(platform.add_device(made.device_id))
    made.start()
    wait_connected(made)
    made.stop()
    (tmp_path / "agent.log").unlink()
    yield made
    made.kill()


def wait_connected(host: AgentHost) -> None:
    wait_for(lambda: host.status.get("session", {}).get("connected"), "a session")


def log_of(host: AgentHost) -> str:
    text = (host.folder / "agent.log").read_text()
    assert "Traceback" not in text
    return text


def test_a_damaged_enrollment_state_is_named_and_kept(host: AgentHost) -> None:
    state = host.config.state_dir / "enrollment.json"
    for junk in (JUNK, b"", b"[" * 50_000, b'{"version": 2}', b"{" * 70_000):
        state.write_bytes(junk)
        host.start()
        assert host.wait() == 1
        assert str(state) in log_of(host)
        assert state.read_bytes() == junk


def test_a_device_whose_state_was_removed_comes_back_by_a_claim(
    host: AgentHost, platform: SmallPlatform
) -> None:
    (host.config.state_dir / "enrollment.json").unlink()
    host.give_claim(platform.add_claim(host.device_id))
    host.start()
    wait_connected(host)


def test_everything_else_it_remembers_is_made_anew(host: AgentHost) -> None:
    kept = {"enrollment.json", "agent.lock", "certificates"}
    for path in host.config.state_dir.iterdir():
        if path.name not in kept and path.is_file():
            path.write_bytes(JUNK)
    host.start()
    wait_connected(host)
    assert "queue_reset" in log_of(host)


@pytest.mark.parametrize("junk", [JUNK, b""])
def test_a_damaged_key_is_named_and_nothing_is_deleted(host: AgentHost, junk: bytes) -> None:
    (key,) = (host.folder / "keys").glob("device-*")
    key.write_bytes(junk)
    host.start()
    wait_for(lambda: str(key) in log_of(host), "the key's name in its log")
    assert key.read_bytes() == junk
    assert host.process is not None
    assert host.process.poll() is None


def test_a_damaged_certificate_is_told(host: AgentHost) -> None:
    (chain,) = (host.config.state_dir / "certificates").iterdir()
    chain.write_bytes(JUNK)
    host.start()
    wait_for(lambda: str(chain) in log_of(host), "the certificate's name in its log")


def test_a_damaged_root_is_named(host: AgentHost, tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(JUNK)
    text = host.config_file.read_text().replace(str(host.config.ca_file), str(root))
    host.config_file.write_text(text)
    host.start()
    wait_for(lambda: str(root) in log_of(host), "the root's name in its log")
