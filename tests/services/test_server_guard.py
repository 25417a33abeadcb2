import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleetward.base.clock import SystemClock
from fleetward.base.config import Ports, ServerConfig, ports_from
from fleetward.base.errors import ConfigError, ConflictError, FleetwardError, PortInUseError
from fleetward.base.layout import DataFolder
from fleetward.programs.cli.main import cli
from fleetward.programs.server.guard import check_ports, hold_folder
from fleetward.programs.server.initialise import check_secrecy, initialise
from support.ports import free_ports


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """A platform whose local token has gone: whoever acts before it looks makes another."""
    folder = DataFolder(tmp_path_factory.mktemp("made") / "data")
    wanted = ServerConfig(trust_domain="fleet.test")
    initialise(folder, wanted, passphrase_file=None, clock=SystemClock(), tell=lambda _: None)
    folder.admin_token.unlink()
    return folder


def refusal_of(*arguments: str) -> FleetwardError:
    found = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert isinstance(found.exception, FleetwardError), found.exception
    assert found.output == "", "nothing was done, so nothing is told"
    return found.exception


@contextmanager
def taken_port() -> Iterator[int]:
    """Yield a port base whose port of devices is taken."""
    base = free_ports(5)
    with socket.create_server(("127.0.0.1", ports_from(base).devices)):
        yield base


def test_up_makes_nothing_where_a_port_is_taken(tmp_path: Path) -> None:
    with taken_port() as base:
        error = refusal_of("up", "--data", str(tmp_path / "data"), "--port-base", str(base), "--no-demo")
    assert isinstance(error, PortInUseError)
    assert list(tmp_path.iterdir()) == []


def test_up_changes_nothing_where_a_port_is_taken(made: DataFolder) -> None:
    with taken_port() as base:
        error = refusal_of("up", "--data", str(made.path), "--port-base", str(base), "--no-demo")
    assert isinstance(error, PortInUseError)
    assert not made.admin_token.exists()


@pytest.mark.parametrize("command", [("init",), ("up", "--no-demo")])
def test_nothing_is_changed_where_a_platform_runs(made: DataFolder, command: tuple[str, ...]) -> None:
    """Its ports are taken too: that is not what is wrong."""
    with taken_port() as base, hold_folder(made):
        error = refusal_of(*command, "--data", str(made.path), "--port-base", str(base))
    assert isinstance(error, ConflictError)
    assert not made.admin_token.exists()


def test_a_passphrase_is_not_made_where_the_journal_would_keep_it(
    tmp_path: Path, made: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrase, fresh = tmp_path / "phrase", tmp_path / "fresh"
    printed = os.fstat(1)
    monkeypatch.setenv("JOURNAL_STREAM", f"{printed.st_dev}:{printed.st_ino}")
    for command in (("init",), ("up", "--no-demo")):
        error = refusal_of(*command, "--data", str(fresh), "--port-base", str(free_ports(5)))
        assert isinstance(error, ConfigError)
        assert "fleetward init" in (error.hint or "")
    assert not fresh.exists()
    check_secrecy(made, None)  # it has its keys: none will be made
    check_secrecy(DataFolder(fresh), phrase)
    other = tmp_path.stat()
    for elsewhere in (f"{other.st_dev}:{other.st_ino}", ""):
        monkeypatch.setenv("JOURNAL_STREAM", elsewhere)  # a shell that a unit started, and its terminal
        check_secrecy(DataFolder(fresh), None)


def test_a_folder_serves_one_platform_at_a_time(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with hold_folder(folder), pytest.raises(ConflictError, match="--port-base"), hold_folder(folder):
        pass
    with hold_folder(folder):
        pass


@pytest.mark.parametrize(("name", "kind"), [("mqtt", socket.SOCK_STREAM), ("dtls", socket.SOCK_DGRAM)])
def test_a_taken_port_is_named(name: str, kind: int) -> None:
    ports = {field: free_ports() for field in Ports.__struct_fields__}
    config = ServerConfig(trust_domain="a")
    check_ports(config, Ports(**ports))
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", ports[name]))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        with pytest.raises(PortInUseError, match=name):
            check_ports(config, Ports(**ports))
