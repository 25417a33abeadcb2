"""Indexes on tables that are in use, built beside the steps: whoever writes meanwhile does not wait.

A step names what it needs in `BESIDE`. On PostgreSQL it is built `CONCURRENTLY`, which no transaction can
hold, after the steps have been committed. A build that was cut off leaves an index that does not count;
the next start begins it anew, and until then everything works, only slower. On SQLite, where a start has the
file to itself for a moment, it is built among the steps.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from alembic.script import ScriptDirectory

from fleetward.base.db import Database, Tx
from fleetward.base.logging import get_logger

log = get_logger("migrations")

_LOCK = 0x696E646578  # "index"; any number that is ours alone in the database
# It waited too long for a lock, or altogether: lock_not_available, query_canceled.
_TOO_LONG = frozenset({"55P03", "57014"})
_IS_VALID = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


@dataclass(frozen=True)
class BuiltBeside:
    """An index that a step wants on a table that was there before."""

    name: str
    table: str
    columns: tuple[str, ...]


def list_beside(script: ScriptDirectory) -> list[BuiltBeside]:
    """Return what all steps want built, oldest first."""
    steps = [*script.walk_revisions()][::-1]
    return [one for step in steps for one in getattr(step.module, "BESIDE", ())]


def build_among(tx: Tx, wanted: list[BuiltBeside]) -> None:
    """Build what is missing in the transaction of the steps."""
    for one in wanted:
        tx.conn.exec_driver_sql(_render(tx.conn, one, "CREATE INDEX IF NOT EXISTS"))


def build_beside(db: Database, wanted: list[BuiltBeside], *, lock_timeout_s: float) -> bool:
    """Build what is missing, outside of any transaction; return whether all is there now.

    A build waits for transactions that began before it, up to `lock_timeout_s` each time; nobody waits for
    it. Of several processes one builds.
    """
    with db.outside_transactions() as conn:
        missing = [one for one in wanted if conn.execute(_IS_VALID, {"name": one.name}).scalar() is not True]
        # Tried, not waited for: whoever waits in a statement is waited for by the build.
        if not missing:
            return True
        if not conn.execute(sa.select(sa.func.pg_try_advisory_lock(_LOCK))).scalar():
            return False
        try:
            conn.execute(
                sa.select(sa.func.set_config("lock_timeout", f"{lock_timeout_s * 1000:.0f}ms", sa.false()))
            )
            built = [_build(conn, one) for one in missing]
            return all(built)
        finally:
            conn.invalidate()  # its lock and its setting end with it


def _build(conn: sa.Connection, index: BuiltBeside) -> bool:
    log.info("index_building", index=index.name, table=index.table)
    try:
        conn.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {_quote(conn, index.name)}")
        conn.exec_driver_sql(_render(conn, index, "CREATE INDEX CONCURRENTLY"))
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", None) not in _TOO_LONG:
            raise
        log.warning(
            "index_not_built",
            index=index.name,
            hint="A long transaction is open; the next start tries again.",
        )
        return False
    return True


def _render(conn: sa.Connection, index: BuiltBeside, act: str) -> str:
    columns = ", ".join(_quote(conn, one) for one in index.columns)
    return f"{act} {_quote(conn, index.name)} ON {_quote(conn, index.table)} ({columns})"


def _quote(conn: sa.Connection, name: str) -> str:
    return conn.dialect.identifier_preparer.quote(name)
