"""Puts a backup back: into an empty place, whole or marked as not.

Rules:
- The mark `RESTORING` is there before the first file and goes after the last: no program of ours takes what
  was cut off for a platform, and only a place with that mark is ever emptied.
- `VERSION`, by which a folder is a platform, is written last.
"""

import asyncio
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, groupby
from pathlib import Path

import msgspec

from fleetward.base.clock import Clock, parse_time
from fleetward.base.config import ServerConfig, load_config
from fleetward.base.errors import ConflictError, CorruptDataError, InvalidInputError, NewerDataError
from fleetward.base.files import sync_folder, write_atomically
from fleetward.base.layout import DataFolder, check_format
from fleetward.outside.nats.snapshots import SAVED_STREAMS, restore_stream
from fleetward.outside.sealed.archive import Member, read_archive
from fleetward.programs.server.backup import FORMAT, LIST_NAME, STREAMS
from fleetward.programs.server.doors import SETTINGS
from fleetward.programs.server.guard import check_owner, hold_folder
from fleetward.programs.server.lent_broker import streams_of_stopped

_MAX_LIST_BYTES = 64 * 1024
_MAX_PIECE_BYTES = 8 * 1024 * 1024
_VERSION = "VERSION"
_NOT_OURS = frozenset({"lost+found", "running.lock"})


class _List(msgspec.Struct, frozen=True):
    format: int
    release: str
    trust_domain: str
    taken_at: str
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restored:
    """What was put back; `elsewhere` is what the backup does not hold."""

    trust_domain: str
    taken_at: datetime
    elsewhere: tuple[str, ...]


def restore_backup(folder: DataFolder, file: Path, passphrase: bytes, clock: Clock) -> Restored:
    """Make the platform of a backup in `folder`, which must be empty or what a cut off restore left.

    Raises:
        ConflictError: the folder is not empty, or a platform runs from it.
        WrongPassphraseError: the passphrase does not open the backup.
        ConfigError: we run as another user than the folder's owner.
        CorruptDataError: the backup is damaged; the folder stays marked, and no platform starts from it.
        NewerDataError: a later release took the backup.
    """
    with file.open("rb") as content, closing(read_archive(content, passphrase)) as members:
        said = _read_list(members)  # before anything is touched: the wrong passphrase changes nothing
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_empty(folder)
        check_owner(folder)
        with hold_folder(folder):
            _check_empty(folder)
            write_atomically(folder.restoring, b"")
            _clear(folder)
            folder.make_rooms()
            version, streams = _write_files(folder, members)
            config = load_config(folder, SETTINGS)
            asyncio.run(_write_streams(folder, config, streams, clock.now()))
            _finish(folder, version)
    return Restored(said.trust_domain, parse_time(said.taken_at), said.elsewhere)


def _read_list(members: Iterator[Member]) -> _List:
    first = next(members, None)
    if first is None or first.name != LIST_NAME:
        raise CorruptDataError(f"backup: expected {LIST_NAME} first, found it is no backup of a platform")
    try:
        said = msgspec.json.decode(first.read_all(max_bytes=_MAX_LIST_BYTES), type=_List)
        parse_time(said.taken_at)
    except (msgspec.MsgspecError, InvalidInputError) as error:
        raise CorruptDataError(f"backup: {LIST_NAME}: expected what a backup says of itself") from error
    if said.format > FORMAT:
        raise NewerDataError(
            f"backup: expected format {FORMAT} or older, found {said.format}",
            hint=f"Run the release of Fleetward that took it, {said.release[:40]}, or a later one.",
        )
    return said


def _check_empty(folder: DataFolder) -> None:
    found = {path.name for path in folder.path.iterdir()} - _NOT_OURS
    if found and not folder.restoring.exists():
        raise ConflictError(
            f"{folder.path}: expected an empty place to restore into, found {min(found)} in it",
            hint="Name another place with --data, or move what is there away: a restore overwrites nothing.",
        )


def _clear(folder: DataFolder) -> None:
    """Remove what a restore that was cut off has left."""
    for path in folder.path.iterdir():
        if path.name in _NOT_OURS or path == folder.restoring:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write_files(folder: DataFolder, members: Iterator[Member]) -> tuple[bytes, Iterator[Member]]:
    """Write what comes before the streams; return the content of VERSION, and the rest."""
    version = None
    for member in members:
        if member.name.startswith(f"{STREAMS}/"):
            return _proven(version), chain([member], members)
        if member.name == _VERSION:
            version = member.read_all(max_bytes=_MAX_LIST_BYTES)
            check_format(version, what=f"backup: {_VERSION}", folder="backup")
        else:
            _write_file(folder.path / member.name, member)
    return _proven(version), iter(())


def _proven(version: bytes | None) -> bytes:
    if version is None:
        raise CorruptDataError(f"backup: expected {_VERSION} in it, found none")
    return version


def _write_file(path: Path, member: Member) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, member.mode)
    with os.fdopen(descriptor, "wb") as file:
        for piece in member.read():
            file.write(piece)
        file.flush()
        os.fsync(descriptor)


async def _write_streams(
    folder: DataFolder, config: ServerConfig, members: Iterable[Member], now: datetime
) -> None:
    found = groupby(members, key=lambda member: member.name.split("/")[1])
    first = next(found, None)
    if first is None:
        return
    async with streams_of_stopped(folder, config, now) as connection:
        for stream, pieces in chain([first], found):
            if stream not in SAVED_STREAMS:
                raise CorruptDataError(f"backup: expected streams of ours, found {stream[:40]!r}")
            description = next(pieces).read_all(max_bytes=_MAX_LIST_BYTES)
            contents = (piece.read_all(max_bytes=_MAX_PIECE_BYTES) for piece in pieces)
            await restore_stream(connection, stream, description, contents)


def _finish(folder: DataFolder, version: bytes) -> None:
    for place, _, _ in os.walk(folder.path):
        sync_folder(Path(place))
    write_atomically(folder.version, version)
    folder.restoring.unlink()
    sync_folder(folder.path)
