import socket
from pathlib import Path

import pytest

from fleetward.base.config import Ports, ServerConfig
from fleetward.base.errors import ConflictError, PortInUseError
from fleetward.base.layout import DataFolder
from fleetward.programs.server.guard import check_ports, hold_folder
from support.ports import free_ports


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
