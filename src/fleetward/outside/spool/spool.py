"""The device's outbound queue: durable, bounded, in order of importance. Used by one thread.

What is put in stays until the server has acknowledged it (`remove`), through kills and restarts. When it
grows over its bound the oldest of the least important kind goes first, and every loss is counted in a gap
that goes to the server in its place. A full disk stops nothing: items wait in memory, within bounds, and
`trouble` says so.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Self

from fleetward.base.clock import parse_time, render_time
from fleetward.base.errors import TooLargeError

MAX_PAYLOAD_BYTES = 128 * 1024
_MAX_WAITING_BYTES = 1024 * 1024
# A full disk must leave room for the write-ahead log of deletions, or nothing could ever be freed again.
_RESERVE_BYTES = 1024 * 1024
_ITEM_OVERHEAD_BYTES = 64
_CHUNK_BYTES = 128 * 1024
_PAGE_BYTES = 4096
_MAX_LOG_PAGES = 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS items(
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
    bytes INTEGER NOT NULL, put_at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS items_by_kind ON items(kind, id);
CREATE TABLE IF NOT EXISTS gaps(
    topic TEXT PRIMARY KEY, count INTEGER NOT NULL, first_at TEXT NOT NULL, last_at TEXT NOT NULL);
"""


class Kind(IntEnum):
    """What an item is, most important first. The least important goes first when room is short."""

    RESULT = 0
    SHADOW = 1
    LOG = 2
    METRICS = 3
    TELEMETRY = 4


@dataclass(frozen=True, slots=True)
class Item:
    """One message that waits."""

    id: int
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages of `topic` that were dropped for want of room, put between `first_at` and `last_at`."""

    topic: str
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class _Waiting:
    kind: Kind
    topic: str
    payload: bytes
    put_at: str

    @property
    def cost(self) -> int:
        return len(self.payload) + len(self.topic) + _ITEM_OVERHEAD_BYTES


class Spool:
    """The queue in the file `path`.

    Attributes:
        trouble: why nothing can be stored now, such as a full disk; None when all is well.
        has_gaps: whether something was dropped and not yet reported.
        was_reset: whether the file was unreadable and a new one was begun; the old one lies beside it.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        """Open or create the queue. While the disk refuses, it lives in memory and `trouble` says so."""
        self.trouble: str | None = None
        self.was_reset = False
        self._path = path
        self._reserve = path.with_name(f"{path.name}.reserve")
        self._max_bytes = max_bytes
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._removed: set[int] = set()
        self._lost: dict[str, Gap] = {}
        self._sent_up_to = dict.fromkeys(Kind, 0)
        self._bytes = 0
        self._is_volatile = False
        try:
            self._db = self._open()
        except (OSError, sqlite3.OperationalError) as error:
            self.trouble = str(error)
            self._is_volatile = True
            self._db = sqlite3.connect(":memory:", isolation_level=None)
            self._db.executescript(_SCHEMA)
        self._bytes = self._count_bytes()
        self.has_gaps = bool(self.gaps())
        self._keep_reserve()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def stored_bytes(self) -> int:
        """Bytes that wait, on disk and in memory."""
        return self._bytes + self._waiting_bytes

    def __len__(self) -> int:
        count: int = self._db.execute("SELECT count(*) FROM items").fetchone()[0]
        return count - len(self._removed) + len(self._waiting)

    def put(self, kind: Kind, topic: str, payload: bytes, now: datetime) -> None:
        """Queue a message; it is on disk once `commit` has returned True.

        Raises:
            TooLargeError: over 128 KiB.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise TooLargeError(
                f"message for {topic}: expected at most {MAX_PAYLOAD_BYTES} bytes, found {len(payload)}"
            )
        item = _Waiting(kind, topic, payload, render_time(now))
        self._waiting.append(item)
        self._waiting_bytes += item.cost
        while self._waiting_bytes > min(_MAX_WAITING_BYTES, self._max_bytes):
            self._drop_waiting()

    def commit(self) -> bool:
        """Write what was put and removed since, return whether the disk took it all."""
        if self._is_volatile:
            self._move_to_disk()
        if not (self._waiting or self._removed or self._lost):
            return self.trouble is None
        try:
            self._write_removals()
            while self._waiting or self._lost:
                if not self._has_room():
                    self.trouble = self.trouble or "the disk is full"
                    return False
                self._write_some()
        except sqlite3.Error as error:
            self._meet_trouble(error)
            return False
        if self._is_volatile:
            return False
        self.trouble = None
        return True

    def take(self, limit: int) -> list[Item]:
        """Return up to `limit` messages not taken since the last `rewind`, the important first."""
        found: list[Item] = []
        for kind in Kind:
            rows = self._db.execute(
                "SELECT id, topic, payload FROM items WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
                (kind, self._sent_up_to[kind], limit - len(found)),
            ).fetchall()
            if rows:
                self._sent_up_to[kind] = rows[-1][0]
            found += (Item(*row) for row in rows if row[0] not in self._removed)
            if len(found) >= limit:
                break
        return found

    def rewind(self) -> None:
        """Have `take` begin anew: the connection that carried the last ones is gone."""
        self._sent_up_to = dict.fromkeys(Kind, 0)

    def remove(self, ids: Iterable[int]) -> None:
        """Let go of messages that the server has acknowledged; on disk at the next `commit`."""
        self._removed.update(ids)

    def gaps(self) -> list[Gap]:
        """Return what was dropped and not yet reported."""
        rows = self._db.execute("SELECT topic, count, first_at, last_at FROM gaps ORDER BY topic").fetchall()
        return [Gap(topic, count, parse_time(first), parse_time(last)) for topic, count, first, last in rows]

    def replace_gap(self, gap: Gap, kind: Kind, topic: str, payload: bytes, now: datetime) -> bool:
        """Turn a gap into a message about it, both or neither; return whether the disk took it."""
        item = _Waiting(kind, topic, payload, render_time(now))
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute("DELETE FROM gaps WHERE topic = ?", (gap.topic,))
                self._insert([item])
        except sqlite3.Error as error:
            self._meet_trouble(error)
            return False
        self._bytes += item.cost
        self.has_gaps = bool(self.gaps())
        return True

    def close(self) -> None:
        self.commit()
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            # Not a database, or a torn one: keep it for whoever investigates, and go on.
            self.was_reset = True
            for suffix in ("", "-wal", "-shm"):
                old = self._path.with_name(self._path.name + suffix)
                with contextlib.suppress(FileNotFoundError):
                    old.replace(self._path.with_name(f"{self._path.name}.unreadable{suffix}"))
            return self._connect()

    def _move_to_disk(self) -> None:
        """Leave memory once the disk can be written."""
        try:
            disk = self._open()
        except (OSError, sqlite3.OperationalError) as error:
            self.trouble = str(error)
            return
        rows = self._db.execute("SELECT kind, topic, payload, put_at FROM items ORDER BY id").fetchall()
        self._db.close()
        self._db, self._is_volatile = disk, False
        self._waiting = [*(_Waiting(Kind(row[0]), *row[1:]) for row in rows), *self._waiting]
        self._waiting_bytes = sum(item.cost for item in self._waiting)
        self._removed.clear()
        self.rewind()
        self._bytes = self._count_bytes()

    def _count_bytes(self) -> int:
        count: int = self._db.execute("SELECT coalesce(sum(bytes), 0) FROM items").fetchone()[0]
        return count

    def _connect(self) -> sqlite3.Connection:
        """Return the database in the file. Raises sqlite3.DatabaseError when it is none, or damaged."""
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        os.close(descriptor)
        db = sqlite3.connect(self._path, isolation_level=None, timeout=5, cached_statements=16)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA cache_size=-256")
            db.execute("PRAGMA journal_size_limit=0")
            db.execute(f"PRAGMA wal_autocheckpoint={_MAX_LOG_PAGES}")
            _check(db)
            db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    def _write_removals(self) -> None:
        """Delete what was acknowledged, first and by itself: on a full disk this is what makes room."""
        if not self._removed:
            return
        freed = 0
        self._db.execute("PRAGMA synchronous=NORMAL")
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for item_id in self._removed:
                row = self._db.execute(
                    "DELETE FROM items WHERE id = ? RETURNING bytes", (item_id,)
                ).fetchone()
                freed += row[0] if row else 0
        self._bytes -= freed
        self._removed.clear()

    def _write_some(self) -> None:
        """Write the next of the waiting items, and all gaps, in one transaction of bounded size."""
        count, total = 0, 0
        while count < len(self._waiting) and (count == 0 or total < _CHUNK_BYTES):
            total += self._waiting[count].cost
            count += 1
        chunk = self._waiting[:count]
        # A command's result and a log line are worth an fsync; telemetry after a power cut is not.
        is_precious = any(item.kind <= Kind.LOG for item in chunk)
        cost = sum(item.cost for item in chunk)
        self._db.execute(f"PRAGMA synchronous={'FULL' if is_precious else 'NORMAL'}")
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._insert(chunk)
            dropped = self._drop_overflow(self._bytes + cost)
            for gap in self._lost.values():
                self._write_gap(gap)
        self._bytes += cost - dropped
        self._waiting_bytes -= cost
        self._waiting, self._lost = self._waiting[count:], {}

    def _insert(self, items: list[_Waiting]) -> None:
        self._db.executemany(
            "INSERT INTO items(kind, topic, payload, bytes, put_at) VALUES (?, ?, ?, ?, ?)",
            [(item.kind, item.topic, item.payload, item.cost, item.put_at) for item in items],
        )

    def _drop_overflow(self, total: int) -> int:
        """Drop the oldest of the least important kinds until `total` fits; return the bytes dropped."""
        dropped = 0
        max_bytes = min(self._max_bytes, _MAX_WAITING_BYTES) if self._is_volatile else self._max_bytes
        while total - dropped > max_bytes:
            row = self._db.execute(
                "DELETE FROM items WHERE id = "
                "(SELECT min(id) FROM items WHERE kind = (SELECT max(kind) FROM items)) "
                "RETURNING topic, bytes, put_at"
            ).fetchone()
            if row is None:
                break
            topic, cost, put_at = row
            at = parse_time(put_at)
            self._write_gap(Gap(topic, 1, at, at))
            dropped += cost
        return dropped

    def _write_gap(self, gap: Gap) -> None:
        self.has_gaps = True
        self._db.execute(
            "INSERT INTO gaps(topic, count, first_at, last_at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT(topic) DO UPDATE SET count = count + excluded.count, "
            "first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)",
            (gap.topic, gap.count, render_time(gap.first_at), render_time(gap.last_at)),
        )

    def _drop_waiting(self) -> None:
        """Drop the oldest of the least important items that the disk has not taken."""
        worst = max(item.kind for item in self._waiting)
        index = next(i for i, item in enumerate(self._waiting) if item.kind == worst)
        item = self._waiting.pop(index)
        self._waiting_bytes -= item.cost
        at = parse_time(item.put_at)
        before = self._lost.get(item.topic, Gap(item.topic, 0, at, at))
        self._lost[item.topic] = Gap(item.topic, before.count + 1, before.first_at, at)

    def _meet_trouble(self, error: sqlite3.Error) -> None:
        self.trouble = str(error)
        self._reserve.unlink(missing_ok=True)
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _has_room(self) -> bool:
        """Whether new items may be written: with the reserve untouched, or into pages that were freed."""
        self._keep_reserve()
        if self._is_volatile or self._reserve.exists():
            return True
        free_pages: int = self._db.execute("PRAGMA freelist_count").fetchone()[0]
        return free_pages * _PAGE_BYTES > 4 * _CHUNK_BYTES

    def _keep_reserve(self) -> None:
        if self._is_volatile or self._reserve.exists():
            return
        try:
            descriptor = os.open(self._reserve, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            self._reserve.unlink(missing_ok=True)


def _check(db: sqlite3.Connection) -> None:
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(found)
