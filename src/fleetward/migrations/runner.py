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


def migrate(db: Database) -> tuple[str | None, str]:
    """Run the missing steps and return the schema versions before and after.

    Raises:
        NewerDataError: a later release wrote this database; nothing was changed.
    """
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    newest = script.get_current_head() or ""
    with db.write("system:migration") as tx:
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
