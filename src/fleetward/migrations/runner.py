"""Brings a database to this release's schema. A database newer than the code stops the program."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from fleetward.base.db import Database
from fleetward.base.errors import NewerDataError

_FOLDER = Path(__file__).parent
_LOCK = 0x666C656574  # "fleet"; any number that is ours alone in the database


def migrate(db: Database) -> tuple[str | None, str]:
    """Run the missing steps and return the schema versions before and after.

    One transaction: a start that is cut off leaves nothing, and of several at once the others wait.

    Raises:
        NewerDataError: a later release wrote this database; nothing was changed.
    """
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    newest = script.get_current_head() or ""
    with db.write("system:migration") as tx:
        if not db.is_sqlite:  # SQLite's write transaction keeps others out by itself
            tx.conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        before = MigrationContext.configure(tx.conn).get_current_revision()
        if before is not None and not _is_known(script, before):
            raise NewerDataError(
                f"database: expected schema {newest} or older, found {before}",
                hint="Run the release of Fleetward that wrote it, or a later one.",
            )
        if before != newest:
            config.attributes["connection"] = tx.conn
            command.upgrade(config, "head")
    return before, newest


def schema_version(conn: sa.Connection) -> str | None:
    """Return the schema version of a database, None for an empty one."""
    return MigrationContext.configure(conn).get_current_revision()


def _is_known(script: ScriptDirectory, revision: str) -> bool:
    try:
        return script.get_revision(revision) is not None
    except CommandError:
        return False
