"""The relational store: SQLite in WAL mode, or PostgreSQL, through SQLAlchemy Core.

Rules:
- Services take a `Tx`; whoever calls them opens it. One use case is one transaction.
- A `Tx` from `Database.write` may write. On SQLite it holds the write lock from its first statement
  (`BEGIN IMMEDIATE`), so a read inside it cannot go stale before the write that depends on it.
- SQL is written only in a feature's `store` (and here, for what all features share).
"""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite

from fleetward.base.clock import Clock
from fleetward.base.errors import ConfigError, CorruptDataError, InvalidInputError, UnavailableError
from fleetward.base.group import GroupWriter, Job

T = TypeVar("T")

# A query of device ids, built in one feature's store to be nested in another's.
IdQuery: TypeAlias = sa.Select[tuple[str]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BUSY_TIMEOUT_MS = 15_000
_PROGRAM_LIMIT = "54000"  # PostgreSQL's word for a value too large for an index or row, among its outages
_RETRY_AFTER_S = 5
_OWNERS_ALONE = 0o600


def is_among(column: sa.ColumnElement[str], ids: IdQuery) -> sa.ColumnElement[bool]:
    """Return whether a column names one of `ids`: looked up row by row, for queries that leave few rows."""
    return ids.where(ids.selected_columns[0] == column).exists()


def insert_new(tx: "Tx", table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless its key is taken; return whether it was inserted."""
    statement = _insert(tx, table).values(**values).on_conflict_do_nothing()
    # SQLAlchemy keeps the count of an INSERT only when asked to.
    return tx.conn.execute(statement.execution_options(preserve_rowcount=True)).rowcount == 1


def upsert(tx: "Tx", table: sa.Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Insert a row or bring the one with this key to these values. `key` is a unique index's."""
    statement = _insert(tx, table).values(**key, **values)
    tx.conn.execute(statement.on_conflict_do_update(index_elements=list(key), set_=dict(values)))


def _insert(tx: "Tx", table: sa.Table) -> sqlite.Insert:
    # What they take after the INSERT is written alike in both.
    insert = sqlite.insert if tx.conn.dialect.name == "sqlite" else postgresql.insert
    return cast("sqlite.Insert", insert(table))


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Timestamp(sa.types.TypeDecorator[datetime]):
    """A UTC time, stored as whole microseconds since 1970 so that it sorts alike in every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        del dialect
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        del dialect
        return None if value is None else _EPOCH + timedelta(microseconds=value)


# 64-bit in PostgreSQL; in SQLite the rowid alias, which only INTEGER PRIMARY KEY gives.
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class Notary(Protocol):
    """Signs the end of the audit log inside each transaction that moves it."""

    def seal(self, size: int, peaks: tuple[bytes, ...], *, at: datetime, previous: int) -> str:
        """Return a signed note that states the log."""
        ...

    def is_sealed(self, note: str, size: int, peaks: tuple[bytes, ...]) -> bool:
        """Say whether `note` is ours and states this log."""
        ...


class Journal(Protocol):
    """Keeps the record of what changed; `base.journal` writes it."""

    def __call__(self, tx: "Tx", action: str, subject: str, **details: Any) -> int:
        """Record one change in its transaction; return its sequence number."""
        ...


@dataclass(frozen=True)
class Tx:
    """One transaction: its connection, its time and on whose behalf it acts.

    Attributes:
        actor: who caused it, e.g. `operator:admin`, `device:cam-1`, `system:renewal`.
        notary: signs the audit log; None only where no platform runs.
        journal: keeps the record of changes; None where the transaction only reads.
        is_writing: whether it commits what it changes.
        outgoing: rows of `events` that wait for its end; `base.events` alone touches them.
    """

    conn: sa.Connection
    now: datetime
    actor: str
    notary: Notary | None = None
    journal: Journal | None = None
    is_writing: bool = False
    outgoing: list[dict[str, Any]] = field(default_factory=list, repr=False)
    _before_commit: list[Callable[[], None]] = field(default_factory=list, repr=False)

    def acting_as(self, actor: str) -> "Tx":
        """Return this transaction on behalf of whom its first statements proved to be asking."""
        return replace(self, actor=actor)

    def before_commit(self, act: Callable[[], None]) -> None:
        """Run `act` as the last thing this transaction does: what it locks is held for the commit alone.

        Raises:
            RuntimeError: the transaction only reads; what it wrote would be lost.
        """
        if not self.is_writing:
            raise RuntimeError("transaction: expected one that writes, found one that reads")
        self._before_commit.append(act)


class Database:
    """Opens transactions. Thread-safe; make one per process."""

    def __init__(
        self, url: str, clock: Clock, *, journal: Journal | None = None, notary: Notary | None = None
    ) -> None:
        """Connect lazily to `url`, e.g. `sqlite:////var/lib/fleetward/db.sqlite3` or `postgresql+psycopg://…`.

        Args:
            journal: keeps the record of what changes; without one, no change of state can be made.
        """
        self.clock = clock
        self._journal = journal
        self._notary = notary
        self.engine = _make_engine(url)
        self._listeners: list[Callable[[], None]] = []
        self._group = GroupWriter(self._open_group)
        self._closed_pool: sa.Pool | None = None

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def on_write(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every committed write, from the thread that wrote: keep it quick."""
        self._listeners.append(listener)

    @contextmanager
    def read(self, actor: str = "system") -> Iterator[Tx]:
        """Open a transaction that only reads, over one snapshot."""
        with self._connect(is_write=False) as conn:
            yield Tx(conn, self.clock.now(), actor)

    @contextmanager
    def write(self, actor: str, *, is_told: bool = True) -> Iterator[Tx]:
        """Open a transaction that commits when the block ends, and rolls back when it raises.

        Args:
            is_told: whether the listeners of `on_write` hear of it.
        """
        with self._connect(is_write=True) as conn, self._begin(conn, actor) as tx:
            yield tx
        for listener in self._listeners if is_told else ():
            listener()

    @contextmanager
    def outside_transactions(self) -> Iterator[sa.Connection]:
        """Open a connection on which each statement stands for itself."""
        with _telling_errors(), self.engine.connect() as conn:
            yield conn.execution_options(isolation_level="AUTOCOMMIT")

    def copy_to(self, file: Path) -> None:
        """Write all there is, as it is at one moment, into a new SQLite file; whoever writes does not wait.

        Of SQLite only: others bring programs of their own for it.

        Raises:
            CorruptDataError: the database is damaged, and so is the copy.
            UnavailableError: it cannot be read, or the copy not be written.
        """
        _keep_private(str(file))
        try:
            with self.outside_transactions() as conn, closing(sqlite3.connect(file)) as copy:
                source: Any = conn.connection.driver_connection
                source.backup(copy)
                found = copy.execute("PRAGMA integrity_check").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise _damaged() if _is_damage(error) else _unavailable() from error
        if found != "ok":
            raise _damaged()

    def write_together(self, actor: str, work: Callable[[Tx], T]) -> T:
        """Return what `work` returned, run in a transaction as by `write`, which may share its commit.

        For small work that many do at once. On SQLite, which has one writer, it saves each the waiting for
        a lock and for the disk; PostgreSQL does that by itself. `work` runs in any caller's thread.

        Raises:
            UnavailableError: the database does not commit, or too many wait to write.
        """
        if self.is_sqlite:
            return self._group.run(actor, work)
        with self.write(actor) as tx:
            return work(tx)

    def close(self) -> None:
        """Close every connection: those in use as soon as they are given back."""
        self._closed_pool = self.engine.pool
        self.engine.dispose()

    @contextmanager
    def _open_group(self) -> Iterator[Callable[[Job[Any]], None]]:
        with self._connect(is_write=True) as conn:
            yield partial(self._run_one, conn)
        for listener in self._listeners:
            listener()

    @contextmanager
    def _begin(self, conn: sa.Connection, actor: str) -> Iterator[Tx]:
        """Give out a transaction, and do at its end what was to come last."""
        tx = Tx(conn, self.clock.now(), actor, self._notary, self._journal, is_writing=True)
        yield tx
        for act in tx._before_commit:  # noqa: SLF001 - its owner
            act()

    def _run_one(self, conn: sa.Connection, job: Job[Any]) -> None:
        try:
            with _telling_errors(), conn.begin_nested(), self._begin(conn, job.actor) as tx:
                job.value = job.context.run(job.work, tx)
        except Exception as error:
            job.error = error
            driver: Any = conn.connection.driver_connection
            if not driver.in_transaction:  # a full or failing disk undoes all at once, savepoints with it
                raise

    @contextmanager
    def _connect(self, *, is_write: bool) -> Iterator[sa.Connection]:
        try:
            with _telling_errors(), self.engine.connect() as raw:
                conn = raw.execution_options(fleetward_write=is_write)
                if not is_write and not self.is_sqlite:
                    conn = conn.execution_options(isolation_level="REPEATABLE READ")  # one snapshot
                with conn.begin():
                    yield conn
        finally:
            if self._closed_pool is not None:
                self._closed_pool.dispose()


@contextmanager
def _telling_errors() -> Iterator[None]:
    """Turn the errors of SQLAlchemy and its drivers into ours."""
    try:
        yield
    except (sa.exc.DataError, OverflowError) as error:
        # SQLite's driver says the one, PostgreSQL the other, of what no column can hold.
        raise InvalidInputError(
            "value: expected one a database can hold, found a number out of range or a NUL character"
        ) from error
    except sa.exc.TimeoutError as error:
        raise UnavailableError(
            "database: expected a connection within the time, found all of them in use",
            retry_after_s=_RETRY_AFTER_S,
        ) from error
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _PROGRAM_LIMIT:
            raise InvalidInputError(
                "value: expected one a database can hold, found it over a limit of PostgreSQL"
            ) from error
        raise _unavailable() from error
    except (sa.exc.InterfaceError, sa.exc.InternalError) as error:
        # The connection is gone, or the server became read-only.
        raise _unavailable() from error
    except sa.exc.DatabaseError as error:
        if _is_damage(error):
            raise _damaged() from error
        raise


def _is_damage(error: Exception) -> bool:
    return "malformed" in str(error) or "not a database" in str(error)


def _damaged() -> CorruptDataError:
    return CorruptDataError(
        "database: expected an intact file, found it damaged",
        hint="Stop Fleetward and restore the last backup; nothing was changed.",
    )


def _unavailable() -> UnavailableError:
    return UnavailableError(
        "database: expected it to answer, found an error",
        hint="Look at disk space, at who owns the file, and that the database is running.",
        retry_after_s=_RETRY_AFTER_S,
    )


def _make_engine(url: str) -> sa.Engine:
    if not url.startswith("sqlite"):
        try:
            return sa.create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=20)
        except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
            scheme = url.partition(":")[0][:40]  # what follows may hold a password
            raise ConfigError(
                f"database: expected a URL such as postgresql+psycopg://user@host/name, found {scheme!r}",
                hint="Set it in fleetward.toml; docs/reference/config.md explains it.",
            ) from error
    engine = sa.create_engine(
        url, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000, "check_same_thread": False}
    )
    event.listen(engine, "do_connect", lambda *_: _keep_private(engine.url.database))
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _keep_private(file: str | None) -> None:
    """Keep others from reading the file; the log and index that SQLite puts beside it take its mode.

    It is never opened here: to close any descriptor of a file ends all locks that a process has on it.
    """
    if not file or file == ":memory:":
        return
    try:
        with suppress(FileExistsError):
            os.mknod(file, stat.S_IFREG | _OWNERS_ALONE)
        if stat.S_IMODE(Path(file).stat().st_mode) & ~_OWNERS_ALONE:
            Path(file).chmod(_OWNERS_ALONE)
    except OSError:
        return  # to connect fails next, and says why; or the file is somebody else's, who decides


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _begin_sqlite
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # a committed revocation survives a power cut
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(conn: sa.Connection) -> None:
    is_write = conn.get_execution_options().get("fleetward_write", True)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
