"""What the application hands to the agent: JSON datagrams on a socket that only this device's user may write.

    {"stream": "temperature", "value": 21.5}      a reading
    {"log": {"event": "door_opened"}}             a log line, any JSON value
    {"health": "ok"}                              or {"health": "failing", "reason": "no sensor"}
    {"report": {"resolution": "640x480"}}         part of the reported shadow; null removes

A datagram that is none of these is counted and dropped: a broken application must not stop the agent.
"""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec

from fleetward.base.errors import ConfigError, InvalidInputError
from fleetward.base.ids import parse_id
from fleetward.wire.bounded_json import parse_bounded_json

MAX_DATAGRAM_BYTES = 60 * 1024
_BATCH = 64


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reading of the application's."""

    stream: str
    value: Any


class Logged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    log: Any


class Felt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the application is; `ok` is what an update's trial waits for."""

    health: Annotated[str, msgspec.Meta(max_length=32)]
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class Stated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the application is set to, for the reported shadow."""

    report: dict[str, Any]


Note: TypeAlias = Measured | Logged | Felt | Stated
_KINDS: dict[str, type[Measured] | type[Logged] | type[Felt] | type[Stated]] = {
    "stream": Measured,
    "log": Logged,
    "health": Felt,
    "report": Stated,
}


def parse_note(datagram: bytes) -> Note:
    """Return what a datagram says. Raises InvalidInputError for one that is none of the documented forms."""
    value = parse_bounded_json(datagram, what="application datagram", max_bytes=MAX_DATAGRAM_BYTES)
    kind = next((_KINDS[name] for name in _KINDS if name in value), None) if isinstance(value, dict) else None
    if kind is None:
        raise InvalidInputError("application datagram: expected stream, log, health or report, found none")
    try:
        note = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"application datagram: {error}") from error
    if isinstance(note, Measured):
        parse_id(note.stream, what="telemetry stream")
    return note


class Inbox:
    """The socket. Batches of datagrams go to `take`, called in the inbox's own thread."""

    def __init__(self, path: Path, take: Callable[[list[bytes]], None]) -> None:
        """Bind `path`, owner-only.

        Raises:
            ConfigError: its folder is not writable.
        """
        self._path = path
        self._take = take
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            path.unlink(missing_ok=True)
            _bind(self._socket, path)
            path.chmod(0o600)  # until here its folder, which others may not enter, protects it
        except OSError as error:
            self._socket.close()
            raise ConfigError(
                f"state_dir: expected {path.parent} to be writable: {error.strerror}"
            ) from error

    def start(self) -> None:
        threading.Thread(target=self._run, name="inbox", daemon=True).start()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            batch = [self._socket.recv(MAX_DATAGRAM_BYTES + 1)]
            while len(batch) < _BATCH:
                try:
                    batch.append(self._socket.recv(MAX_DATAGRAM_BYTES + 1, socket.MSG_DONTWAIT))
                except BlockingIOError:
                    break
            self._take(batch)


def _bind(unbound: socket.socket, path: Path) -> None:
    """Bind to a path of any length: the kernel takes 107 bytes, so go there by its folder's descriptor."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        unbound.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
