"""Brings a database to this release's schema. A database newer than the code stops the program."""

import time
from pathlib import Path

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from fleetward.base.db import Database, Tx
from fleetward.base.errors import NewerDataError, UnavailableError
from fleetward.base.logging import get_logger
from fleetward.migrations.beside import build_among, build_beside, list_beside

log = get_logger("migrations")

_FOLDER = Path(__file__).parent
_LOCK = 0x666C656574  # "fleet"; any number that is ours alone in the database
_LOCK_TIMEOUT_S = 2.0
_TRIES = 30
_PAUSE_S = 1.0
_BUILD_WAIT_S = 60.0


def migrate(
    db: Database,
    *,
    lock_timeout_s: float = _LOCK_TIMEOUT_S,
    tries: int = _TRIES,
    build_wait_s: float = _BUILD_WAIT_S,
) -> tuple[str | None, str]:
    """Run the missing steps and return the schema versions before and after.

    One transaction: a start that is cut off leaves nothing, and of several at once the others wait. On
    PostgreSQL a step that waits for a table's lock makes everybody wait who comes after it; so it gives up
    after `lock_timeout_s` and all of it is tried again, `tries` times in all. Indexes on tables in use are
    built afterwards, see `beside`; one that long transactions hold up for over `build_wait_s` is left to the
    next start.

    Raises:
        NewerDataError: a later release wrote this database; nothing was changed.
        UnavailableError: somebody held a table all the while; nothing was changed.
    """
    for number in range(1, tries + 1):
        try:
            found = _migrate_once(db, lock_timeout_s)
        except UnavailableError as error:
            if not _is_about_lock(error):
                raise
            if number == tries:
                raise UnavailableError(
                    f"database: expected to get a table's lock within {lock_timeout_s:g} s, "
                    f"found it held {tries} times",
                    hint="End the transaction that holds it: see pg_stat_activity. Nothing was changed.",
                ) from error
            log.warning("migration_waits", tries=number)
            time.sleep(_PAUSE_S)
        else:
            if not db.is_sqlite:
                wanted = list_beside(ScriptDirectory.from_config(alembic_config()))
                build_beside(db, wanted, lock_timeout_s=build_wait_s)
            return found
    raise AssertionError("unreachable: the last try returns or raises")


def alembic_config() -> Config:
    """Return where Alembic finds the steps."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.set_main_option("path_separator", "os")
    return config


def schema_version(conn: sa.Connection) -> str | None:
    """Return the schema version of a database, None for an empty one."""
    return MigrationContext.configure(conn).get_current_revision()


def _migrate_once(db: Database, lock_timeout_s: float) -> tuple[str | None, str]:
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    newest = script.get_current_head() or ""
    with db.write("system:migration") as tx:
        if not db.is_sqlite:  # SQLite's write transaction keeps others out by itself
            _enter_alone(tx, lock_timeout_s)
        before = MigrationContext.configure(tx.conn).get_current_revision()
        if before is not None and not _is_known(script, before):
            raise NewerDataError(
                f"database: expected schema {newest} or older, found {before}",
                hint="Run the release of Fleetward that wrote it, or a later one.",
            )
        if before != newest:
            config.attributes["connection"] = tx.conn
            command.upgrade(config, "head")
        if db.is_sqlite:
            build_among(tx, list_beside(script))
    return before, newest


def _enter_alone(tx: Tx, lock_timeout_s: float) -> None:
    """Wait for other migrations, however long they take; from then on wait for nothing long."""
    tx.conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    tx.conn.execute(
        sa.select(sa.func.set_config("lock_timeout", f"{lock_timeout_s * 1000:.0f}ms", sa.true()))
    )


def _is_about_lock(error: UnavailableError) -> bool:
    cause = error.__cause__
    return isinstance(cause, sa.exc.DBAPIError) and isinstance(cause.orig, psycopg.errors.LockNotAvailable)


def _is_known(script: ScriptDirectory, revision: str) -> bool:
    try:
        return script.get_revision(revision) is not None
    except CommandError:
        return False
