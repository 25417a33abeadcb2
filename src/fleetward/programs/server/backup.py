"""Takes a backup: one sealed file, from a platform that runs or one that does not.

Rules:
- Rows first, then the files they name; the streams last. A file of the update repository that is ahead of the
  rows is signed anew at the start after a restore.
- Settings and keys are read before and after the rows: should a ceremony have changed them meanwhile, again.
- The file has its name only once it was read back from the disk and found to hold what was written.
- That it was taken is recorded afterwards, in the rows: of that the backup itself knows nothing.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from fleetward import __version__
from fleetward.base import journal
from fleetward.base.clock import Clock, render_time
from fleetward.base.config import ServerConfig
from fleetward.base.db import Database
from fleetward.base.errors import ConflictError, InvalidInputError, UnavailableError
from fleetward.base.events import emit
from fleetward.base.files import sync_folder
from fleetward.base.layout import DataFolder
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.snapshots import SAVED_STREAMS, read_stream_snapshot
from fleetward.outside.sealed.archive import ArchiveWriter, verify_archive
from fleetward.programs.server.guard import check_owner, hold_folder
from fleetward.programs.server.initialise import load_notary, open_database
from fleetward.programs.server.lent_broker import streams_of_running, streams_of_stopped

FORMAT = 1
LIST_NAME = "backup.json"
ROWS_NAME = "db/fleetward.sqlite3"
STREAMS = "streams"
_ACTOR = "system:backup"
_TRIES = 3
# Of the folder's first level: what makes itself anew, what is on its way, and the simulated camera.
_LEFT_OUT = frozenset(
    {"db", "nats", "blobs", "logs", "tls", "uploads", "demo", "ready.json", "running.lock", "backup.lock"}
)
_SHARED_MODE, _OWN_MODE = 0o755, 0o700


@dataclass(frozen=True)
class Taken:
    """A backup that was read back.

    Attributes:
        elsewhere: what the platform keeps outside of its folder, and who must save it.
    """

    file: Path
    size: int
    taken_at: datetime
    elsewhere: tuple[str, ...]


def list_elsewhere(config: ServerConfig) -> tuple[str, ...]:
    """Return what is not in a backup because it is not in the folder, in words for people."""
    found = []
    if config.database:
        found.append("rows: in the database that fleetward.toml names; save it by its own means (pg_dump)")
    if config.blobs:
        found.append("releases: in the store that fleetward.toml names; copy it, or have it keep versions")
    if config.nats.urls:
        found.append("streams: in the NATS cluster; save them there (nats stream backup)")
    return tuple(found)


def take_backup(
    folder: DataFolder, config: ServerConfig, file: Path, passphrase: bytes, clock: Clock
) -> Taken:
    """Write a backup to `file`, which must not exist, verify it, and record that it was taken.

    Raises:
        ConflictError: there is such a file, or another backup is being taken.
        InvalidInputError: the file would lie in the folder that it saves.
        ConfigError: we run as another user than the folder's owner.
        UnavailableError: a part of the platform does not hand over what it holds.
        CorruptDataError: a part is damaged, or the file read back is not what was written.
    """
    file = file.resolve()
    if folder.path in file.parents:
        raise InvalidInputError(f"{file}: expected a place outside of {folder.path}, found it inside")
    _check_absent(file)
    check_owner(folder)
    with ExitStack() as stack:
        stack.enter_context(_alone(folder.path / "backup.lock", what="backup of this platform"))
        is_running = not _try_to_hold(stack, folder)
        db = open_database(folder, config, clock, load_notary(folder, config))
        stack.callback(db.close)
        taken_at, part = clock.now(), file.with_name(f"{file.name}.part")
        with _alone(part, what="backup to this file") as output:
            try:
                digests = asyncio.run(_write(folder, config, db, output, passphrase, taken_at, is_running))
                _verify(part, output, passphrase, digests)
                _check_absent(file)
                part.rename(file)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        sync_folder(file.parent)
        taken = Taken(file, file.stat().st_size, taken_at, list_elsewhere(config))
        _record(db, config, taken)
    return taken


def _verify(part: Path, output: IO[bytes], passphrase: bytes, digests: dict[str, bytes]) -> None:
    output.flush()
    os.fsync(output.fileno())
    os.posix_fadvise(output.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # read the disk, not the memory
    with part.open("rb") as written:
        verify_archive(written, passphrase, digests)


def _record(db: Database, config: ServerConfig, taken: Taken) -> None:
    with db.write(_ACTOR) as tx:
        journal.record(
            tx, "backup.taken", f"platform:{config.trust_domain}", file=str(taken.file), bytes=taken.size,
            taken_at=render_time(taken.taken_at),
        )  # fmt: skip
        emit(tx, "backup.taken", f"A backup was taken and read back: {taken.size:,} bytes.", bytes=taken.size)


async def _write(
    folder: DataFolder,
    config: ServerConfig,
    db: Database,
    output: IO[bytes],
    passphrase: bytes,
    taken_at: datetime,
    is_running: bool,
) -> dict[str, bytes]:
    output.truncate(0)  # what a backup that was cut off has left
    archive = ArchiveWriter(output, passphrase)
    rows = folder.database.with_name("backup.sqlite3")
    _remove_rows(rows)
    try:
        kept = _read_with_rows(folder, None if config.database else db, rows)
        archive.add(LIST_NAME, _render_list(config, taken_at))
        for name, (content, mode) in kept.items():
            archive.add(name, content, mode=mode)
        if rows.exists():
            archive.add_file(ROWS_NAME, rows)
    finally:
        _remove_rows(rows)
    if not config.blobs:
        for path in _files_of(folder.blobs):
            if "#" not in path.name:  # obstore's name for what is not whole yet
                archive.add_file(str(path.relative_to(folder.path)), path)
    if not config.nats.urls:
        async with _streams(folder, config, taken_at, is_running=is_running) as connection:
            for stream in SAVED_STREAMS:
                await _write_stream(archive, connection, stream)
    archive.finish()
    return archive.digests


def _streams(
    folder: DataFolder, config: ServerConfig, now: datetime, *, is_running: bool
) -> AbstractAsyncContextManager[NatsConnection]:
    return streams_of_running(folder, config) if is_running else streams_of_stopped(folder, config, now)


async def _write_stream(archive: ArchiveWriter, connection: NatsConnection, stream: str) -> None:
    number = 0
    async for piece in read_stream_snapshot(connection, stream):
        archive.add(f"{STREAMS}/{stream}/{number:08}", piece)
        number += 1


def _read_with_rows(folder: DataFolder, db: Database | None, rows: Path) -> dict[str, tuple[bytes, int]]:
    """Copy the rows of the folder's own database, and return settings and keys as they were meanwhile."""
    for _ in range(_TRIES):
        before = _read_kept(folder)
        if db is not None:
            _remove_rows(rows)
            db.copy_to(rows)
        if _read_kept(folder) == before:
            return before
    raise UnavailableError(
        f"{folder.path}: expected settings and keys that stay while rows are copied, found them changing",
        hint="Take the backup when no ceremony is going on.",
    )


def _read_kept(folder: DataFolder) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder.path)): (path.read_bytes(), path.stat().st_mode & 0o755)
        for room in sorted(folder.path.iterdir())
        if room.name not in _LEFT_OUT
        for path in ([room] if room.is_file() else _files_of(room))
        if not path.name.endswith(".tmp")
    }


def _files_of(room: Path) -> Iterator[Path]:
    for path in sorted(room.iterdir()):
        if path.is_dir():
            yield from _files_of(path)
        elif path.is_file():
            yield path


def _remove_rows(rows: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        rows.with_name(rows.name + suffix).unlink(missing_ok=True)


def _render_list(config: ServerConfig, taken_at: datetime) -> bytes:
    said = {
        "format": FORMAT,
        "release": __version__,
        "trust_domain": config.trust_domain,
        "taken_at": render_time(taken_at),
        "elsewhere": list_elsewhere(config),
    }
    return json.dumps(said, indent=1).encode()


def _check_absent(file: Path) -> None:
    if file.exists():
        raise ConflictError(
            f"{file}: expected no such file yet, found one", hint="Name each backup anew, by its date."
        )


def _try_to_hold(stack: ExitStack, folder: DataFolder) -> bool:
    """Keep platforms from starting out of the folder while the stack is open, unless one runs already."""
    with suppress(ConflictError):
        stack.enter_context(hold_folder(folder))
        return True
    return False


@contextmanager
def _alone(path: Path, *, what: str) -> Iterator[IO[bytes]]:
    """Open a file of ours that nobody else has open so; the kernel lets go if we die."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"{path}: expected no other {what} at this time, found one", hint="Wait until it has ended."
            ) from error
        yield file
