"""What the edge of the database says of trouble: what passes, and what is the fault of a value."""

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from fleetward.base.clock import SystemClock
from fleetward.base.db import Database
from fleetward.base.errors import CorruptDataError, InvalidInputError, UnavailableError
from fleetward.base.web import render_error
from support.database import open_database

_rows = sa.Table(
    "test_rows",
    sa.MetaData(),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("text", sa.Text, index=True, nullable=False),
)


@pytest.mark.parametrize("is_write", [False, True])
def test_a_used_up_pool_asks_to_come_back(db: Database, *, is_write: bool) -> None:
    pool = db.engine.pool
    pool._timeout = 0.05  # type: ignore[attr-defined]  # nobody waits half a minute here
    most = pool.size() + pool._max_overflow  # type: ignore[attr-defined]
    with ExitStack() as held:
        for _ in range(most):
            held.enter_context(db.read())
        with pytest.raises(UnavailableError, match="all of them in use") as caught:
            held.enter_context(db.write("system:test") if is_write else db.read())
    answer = render_error(caught.value)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    with db.write("system:test") as tx:
        tx.conn.exec_driver_sql("SELECT 1")


@contextmanager
def _sqlite_refusing_writes(db: Database) -> Iterator[None]:
    def only_read(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA query_only = ON")

    db.engine.dispose()
    sa.event.listen(db.engine, "connect", only_read)
    yield
    sa.event.remove(db.engine, "connect", only_read)
    db.engine.dispose()


@contextmanager
def _postgres_refusing_writes(db: Database) -> Iterator[None]:
    name = db.engine.url.database
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    db.engine.dispose()
    yield
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql("SET default_transaction_read_only = off")
        conn.exec_driver_sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    db.engine.dispose()


def _write(db: Database, number: int = 1, text: str = "") -> None:
    with db.write("system:test") as tx:
        tx.conn.execute(_rows.insert().values(number=number, text=text))


@pytest.fixture
def rows(db: Database) -> Database:
    with db.write("system:test") as tx:
        _rows.create(tx.conn)
    return db


def test_a_server_that_became_read_only_is_away_and_comes_back(rows: Database) -> None:
    refusing = _sqlite_refusing_writes if rows.is_sqlite else _postgres_refusing_writes
    with refusing(rows):
        with pytest.raises(UnavailableError):
            _write(rows)
        with rows.read() as tx:
            tx.conn.execute(sa.select(_rows)).all()
    _write(rows)


def test_a_connection_lost_between_two_statements_is_an_outage(rows: Database) -> None:
    if rows.is_sqlite:
        pytest.skip("a file has no connection to lose")
    with pytest.raises(UnavailableError), rows.write("system:test") as tx:  # noqa: PT012 - lost inside
        mine = tx.conn.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        with rows.write("system:other") as other:
            other.conn.execute(sa.text("SELECT pg_terminate_backend(:mine)"), {"mine": mine})
        tx.conn.execute(_rows.insert().values(number=1, text=""))
    _write(rows)


def test_a_lock_held_too_long_is_an_outage(rows: Database) -> None:
    if rows.is_sqlite:
        pytest.skip("there the wait is 15 s, by busy_timeout")
    with rows.write("system:holder") as holder:
        holder.conn.execute(_rows.insert().values(number=1, text=""))
        with pytest.raises(UnavailableError), rows.write("system:test") as tx:  # noqa: PT012 - one wait
            tx.conn.exec_driver_sql("SET lock_timeout = 1")
            tx.conn.execute(_rows.insert().values(number=1, text=""))


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**80])
def test_a_number_out_of_range_is_invalid_input(rows: Database, number: int) -> None:
    with pytest.raises(InvalidInputError):
        _write(rows, number)
    _write(rows, 2**63 - 1)
    _write(rows, -(2**63))


def test_a_text_no_column_can_hold_is_invalid_input(rows: Database) -> None:
    """PostgreSQL says "program limit exceeded" among its outages: it is the value's fault all the same."""
    if rows.is_sqlite:
        pytest.skip("SQLite holds both")
    for text in ("a\0b", random.Random(1).randbytes(20_000).hex()):
        with pytest.raises(InvalidInputError):
            _write(rows, text=text)
    _write(rows, text="ab")


def test_a_broken_rule_of_ours_is_neither(rows: Database) -> None:
    """What is no outage is not waited for: the message that caused it is set aside."""
    _write(rows)
    with pytest.raises(sa.exc.IntegrityError):
        _write(rows)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (sa.exc.DataError, InvalidInputError),
        (sa.exc.OperationalError, UnavailableError),
        (sa.exc.InterfaceError, UnavailableError),
        (sa.exc.InternalError, UnavailableError),
        (sa.exc.IntegrityError, sa.exc.IntegrityError),
        (sa.exc.ProgrammingError, sa.exc.ProgrammingError),
    ],
)
@pytest.mark.parametrize("is_write", [False, True])
def test_each_kind_of_error_of_a_driver_has_its_meaning(
    db: Database, error: type[sa.exc.DBAPIError], ours: type[Exception], *, is_write: bool
) -> None:
    opened = db.write("system:test") if is_write else db.read()
    with pytest.raises(ours) as caught, opened:
        raise error("SELECT 1", {}, Exception("the driver's"))
    assert type(caught.value) is ours


@pytest.mark.parametrize("words", ["database disk image is malformed", "file is not a database"])
def test_a_damaged_file_is_neither_an_outage_nor_the_values_fault(db: Database, words: str) -> None:
    with pytest.raises(CorruptDataError), db.read():
        raise sa.exc.DatabaseError("SELECT 1", {}, Exception(words))


def test_a_connection_in_use_when_the_database_is_closed_is_closed_once_given_back(db: Database) -> None:
    """A thread may outlive the platform's end by a moment; nothing may be left open to the server."""
    with db.read() as tx:
        driver: Any = tx.conn.connection.driver_connection
        db.close()
        assert tx.conn.exec_driver_sql("SELECT 1").scalar() == 1
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        driver.execute("SELECT 1")


@pytest.mark.parametrize("was_there", [False, True])
def test_the_files_of_sqlite_are_their_owners_alone(tmp_path: Path, *, was_there: bool) -> None:
    file = tmp_path / "db.sqlite3"
    if was_there:
        file.touch(mode=0o644)
    old = os.umask(0o022)
    try:
        opened = open_database(f"sqlite:///{file}", SystemClock())
        with opened.write("system:test") as tx:
            tx.conn.exec_driver_sql("CREATE TABLE kept (number INTEGER)")
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
        opened.close()
    finally:
        os.umask(old)
    assert modes == dict.fromkeys(("db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm"), "0o600")
