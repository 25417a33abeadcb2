"""What must hold before a platform starts: its folder is ours alone, its ports are free."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from fleetward.base.config import Ports, ServerConfig
from fleetward.base.errors import ConfigError, ConflictError, PortInUseError
from fleetward.base.layout import DataFolder
from fleetward.features.pki.settings import Pki


@contextmanager
def hold_folder(folder: DataFolder) -> Iterator[None]:
    """Keep other platforms out of the folder while the block runs; the kernel lets go if we die.

    Raises:
        ConflictError: another platform runs from it.
    """
    descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"{folder.path}: expected no other platform to run from it, found one",
                hint="Stop that one, or choose another --data and --port-base.",
            ) from error
        yield
    finally:
        os.close(descriptor)


def check_owner(folder: DataFolder) -> None:
    """Pass when what we write into the folder belongs to its owner: the platform could not open it else.

    Raises:
        ConfigError: we run as somebody else, root for example.
    """
    owner = folder.path.stat().st_uid
    if owner != os.geteuid():
        raise ConfigError(
            f"{folder.path}: expected to run as its owner, user {owner}, found user {os.geteuid()}",
            hint=f"sudo -u '#{owner}' fleetward …: what another user writes, the platform cannot open.",
        )


@contextmanager
def hold_place(folder: DataFolder, config: ServerConfig, ports: Ports) -> Iterator[None]:
    """Keep a place for a platform while the block runs, before anything is made or changed there.

    A folder without a platform is made only when the ports are free.

    Raises:
        ConflictError: another platform runs from the folder.
        PortInUseError: a port is taken.
    """
    is_there = folder.version.exists()
    if not is_there:
        check_ports(config, ports)
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_folder(folder):
        if is_there:
            check_ports(config, ports)
        yield


def check_ports(config: ServerConfig, ports: Ports) -> None:
    """Pass when every listener's port is free.

    Raises:
        PortInUseError: names the first that is not.
    """
    for name, port, kind, address in (
        ("console", ports.console, socket.SOCK_STREAM, config.listen),
        ("devices", ports.devices, socket.SOCK_STREAM, config.listen),
        ("mqtt", ports.mqtt, socket.SOCK_STREAM, config.listen),
        ("nats", ports.nats, socket.SOCK_STREAM, "127.0.0.1"),
        ("dtls", ports.dtls, socket.SOCK_DGRAM, config.listen),
        ("pki", config.get(Pki).plain_port, socket.SOCK_STREAM, config.listen),
    ):
        if (name == "nats" and config.nats.urls) or not port:
            continue
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                raise PortInUseError(
                    f"port {port} ({name}): expected it free on {address}, found it in use",
                    hint="Stop the other program, or move all ports with --port-base N.",
                ) from error
