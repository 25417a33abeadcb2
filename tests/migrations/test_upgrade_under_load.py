"""On PostgreSQL the release before goes on working while this release's steps run, and after."""

import ast
import sqlite3
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

import fleetward.migrations
from fleetward.base.db import Database
from fleetward.base.errors import UnavailableError
from fleetward.migrations import beside
from fleetward.migrations.runner import alembic_config, migrate
from support.broker import wait_for
from support.clock import ManualClock
from support.database import open_database

# What the release before (commit 7b9f55b) left: its whole data folder, and the newest step it knew.
OLD_FOLDER = Path(__file__).parent / "saved" / "7b9f55b.tar.gz"
OLD_STEP = "0013"
STEPS = sorted((Path(fleetward.migrations.__path__[0]) / "versions").glob("[0-9]*.py"))
NEW_STEPS = [path for path in STEPS if path.name[:4] > OLD_STEP]

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def old_rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Every row that the release before wrote, by table."""
    path = tmp_path_factory.mktemp("old") / "db.sqlite3"
    with tarfile.open(OLD_FOLDER) as archive:
        found = archive.extractfile("./data/db/fleetward.sqlite3")
        assert found is not None
        path.write_bytes(found.read())
    with closing(sqlite3.connect(path)) as raw:
        raw.row_factory = sqlite3.Row
        names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [dict(row) for row in raw.execute(f'SELECT * FROM "{name}"')]  # noqa: S608 - its own names
            for name in names
            if name != "alembic_version"
        }


@pytest.fixture
def old(postgres_url: str, clock: ManualClock) -> Iterator[Database]:
    """PostgreSQL as the release before left it, empty."""
    database = open_database(postgres_url, clock)
    with database.write("t") as tx:
        config = alembic_config()
        config.attributes["connection"] = tx.conn
        command.upgrade(config, OLD_STEP)
    yield database
    database.close()


def write_as_before(db: Database, rows: Rows) -> None:
    """Write every row as the release before does: with the columns it knew."""
    with db.engine.connect() as conn:
        tables = sa.MetaData()
        tables.reflect(conn)
        for table in tables.sorted_tables:
            found = rows.get(table.name)
            if not found:
                continue
            known = sa.table(table.name, *(sa.column(name, table.c[name].type) for name in found[0]))
            truths = {one.name for one in table.c if isinstance(one.type, sa.Boolean)}
            values = [
                {name: bool(value) if name in truths else value for name, value in row.items()}
                for row in found
            ]
            if table.name == "audit_head":
                conn.execute(sa.delete(table))
            conn.execute(sa.insert(known), values)
            for column in table.c:
                if column.server_default is not None and "nextval" in str(column.server_default.arg):  # type: ignore[attr-defined]
                    highest = sa.select(sa.func.max(column)).scalar_subquery()
                    sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
                    conn.execute(sa.select(sa.func.setval(sequence, highest)))
        conn.commit()


def test_rows_of_the_release_before_are_taken_after_the_upgrade(old: Database, old_rows: Rows) -> None:
    migrate(old)
    write_as_before(old, old_rows)
    with old.read() as tx:
        for name, rows in old_rows.items():
            count = tx.conn.execute(sa.text(f'SELECT count(*) FROM "{name}"')).scalar_one()  # noqa: S608
            assert count == len(rows), name


class OldWriter(threading.Thread):
    """Tells events and moves devices as the release before does, each in a transaction of its own."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self._db = db
        self.is_done = threading.Event()
        self.written = 0
        self.failed: list[Exception] = []

    def wait_for_another(self) -> None:
        """Return once it has written again, or failed."""
        before = self.written
        while self.is_alive() and self.written == before:
            time.sleep(0.01)

    def run(self) -> None:
        tell = sa.text(
            "INSERT INTO events (at, kind, device, severity, message, details, actor) "
            "VALUES (1, 'device.noticed', 'cam-1', 'info', 'm', '{}', 'system:old')"
        )
        move = sa.text("UPDATE devices SET firmware_version = firmware_version WHERE id = 'cam-1'")
        seal = sa.text("UPDATE audit_head SET kept = kept WHERE id = 1")
        while not self.is_done.is_set():
            try:
                with self._db.engine.begin() as conn:
                    for statement in (tell, move, seal):
                        conn.execute(statement)
            except sa.exc.DBAPIError as error:
                self.failed.append(error)
                return
            self.written += 1


def test_the_release_before_writes_on_while_the_steps_run_behind_a_long_transaction(
    old: Database, old_rows: Rows
) -> None:
    """A long look at a table makes a step wait; whoever comes after must not wait behind the step."""
    write_as_before(old, old_rows)
    writer = OldWriter(old)

    def upgrade() -> None:
        with suppress(UnavailableError):  # a step that needs such a lock waits until it is free
            migrate(old, lock_timeout_s=0.1, tries=3)

    with old.engine.connect() as slow:
        for table in old_rows:
            slow.execute(sa.text(f'SELECT 1 FROM "{table}" LIMIT 1'))  # noqa: S608
        upgrading = threading.Thread(target=upgrade)
        writer.start()
        upgrading.start()
        upgrading.join()
        writer.wait_for_another()
        slow.rollback()
    migrate(old)
    writer.wait_for_another()
    writer.is_done.set()
    writer.join()
    assert writer.failed == []


def test_a_step_that_waits_for_a_lock_gives_up_and_changes_nothing(old: Database) -> None:
    """Nothing of this release's steps needs such a lock; a later one may."""
    with old.engine.connect() as holder:
        holder.execute(sa.text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(UnavailableError, match="lock"):
            migrate(old, lock_timeout_s=0.05, tries=2)
        holder.rollback()
    assert migrate(old)[0] == OLD_STEP


# -- indexes built beside the steps

INDEX = "ix_events_device_id"
MANY_EVENTS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000) "
    "INSERT INTO events (at, kind, device, severity, message, details, actor) "
    "SELECT i, 'test.happened', 'cam-' || (i % 200), 'info', 'm', '{}', 'system:test' FROM n"
)


def is_valid(db: Database) -> bool | None:
    """Return whether the index counts; None where there is none."""
    query = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    with db.read() as tx:
        return tx.conn.execute(query, {"name": INDEX}).scalar()


def holding_events(db: Database) -> sa.Connection:
    """Return a connection whose open transaction has written an event, as a slow writer's."""
    holder = db.engine.connect()
    tell = (
        "INSERT INTO events (at, kind, severity, message, details, actor) "
        "VALUES (1, 'k', 'info', '', '{}', '')"
    )
    holder.execute(sa.text(tell))
    return holder


def test_writers_go_on_while_an_index_waits_to_be_built(old: Database, old_rows: Rows) -> None:
    write_as_before(old, old_rows)
    writer, holder = OldWriter(old), holding_events(old)
    upgrading = threading.Thread(target=migrate, args=(old,))
    writer.start()
    upgrading.start()
    try:
        wait_for(lambda: is_valid(old) is not None)  # begun, and waiting for the slow writer
        for _ in range(20):
            writer.wait_for_another()
        is_waiting = is_valid(old) is False
    finally:
        holder.close()
        upgrading.join()
        writer.is_done.set()
        writer.join()
    assert is_waiting
    assert is_valid(old) is True
    assert writer.failed == []


def test_a_build_that_waits_too_long_does_not_stop_the_start_and_is_begun_anew_by_the_next(
    old: Database,
) -> None:
    holder = holding_events(old)
    assert migrate(old, build_wait_s=0.05)[1] == STEPS[-1].name[:4]
    assert is_valid(old) is False
    holder.rollback()
    holder.close()
    migrate(old)
    assert is_valid(old) is True


def test_of_several_processes_one_builds_and_the_others_do_not_wait(old: Database) -> None:
    migrate(old)
    with old.outside_transactions() as conn:
        conn.execute(sa.text(f"DROP INDEX {INDEX}"))
        conn.execute(sa.select(sa.func.pg_advisory_lock(beside._LOCK)))
        migrate(old)
        assert is_valid(old) is None
        conn.execute(sa.select(sa.func.pg_advisory_unlock(beside._LOCK)))
    migrate(old)
    assert is_valid(old) is True


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_page_of_a_device_reads_along_the_index(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> None:
    is_sqlite = kind == "sqlite"
    url = f"sqlite:///{tmp_path / 'i.sqlite3'}" if is_sqlite else request.getfixturevalue("postgres_url")
    db = open_database(url, clock)
    migrate(db)
    with db.write("t") as tx:
        tx.conn.execute(sa.text(MANY_EVENTS))
    page = "SELECT * FROM events WHERE device = 'cam-7' AND id > 100 ORDER BY id LIMIT 10"
    with db.write("t") as tx:
        tx.conn.execute(sa.text("ANALYZE events"))
        plan = tx.conn.execute(sa.text(f"EXPLAIN {'QUERY PLAN ' if is_sqlite else ''}{page}")).all()
    db.close()
    assert INDEX in str(plan) or (is_sqlite and "ix_events_device" in str(plan)), plan
    assert "TEMP B-TREE" not in str(plan), plan
    assert "Sort" not in str(plan), plan


# -- what a step may not do, read from its text; docs: fleetward/migrations/__init__.py

FORBIDDEN = {
    "drop_table": "the release before still reads it: drop it one release later",
    "drop_column": "the release before still reads it: drop it one release later",
    "alter_column": "rewrites the table or breaks the release before",
    "rename_table": "the release before knows it by its name",
    "drop_constraint": "the release before relies on it",
    "create_check_constraint": "scans the table under a lock",
    "create_foreign_key": "scans the table under a lock",
    "create_unique_constraint": "builds its index under a lock",
}


def faults_of(text: str) -> list[str]:
    """Return what in a step would stop the release before."""
    tree = ast.parse(text)
    created: set[object] = {
        call.args[0].value
        for call in _calls(tree)
        if _name(call) == "create_table" and isinstance(call.args[0], ast.Constant)
    }
    return [fault for call in _calls(tree) if (fault := _fault_of(call, created)) is not None]


def _fault_of(call: ast.Call, created: set[object]) -> str | None:
    name = _name(call)
    if name in FORBIDDEN:
        return f"{name}: {FORBIDDEN[name]}"
    if name == "create_index" and _table_of(call) not in created:
        return "create_index: on a table that is there it keeps writers out until it is built"
    if name == "add_column" and not _may_be_left_out(call.args[1]):
        return "add_column: the release before leaves it out; nullable, or with a constant default"
    if name == "execute":
        return "execute: rows are filled in pages, each in a transaction of its own"
    return None


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _table_of(call: ast.Call) -> object:
    return call.args[1].value if len(call.args) > 1 and isinstance(call.args[1], ast.Constant) else None


def _is_true(call: ast.Call, name: str) -> bool:
    constants = {one.arg: one.value.value for one in call.keywords if isinstance(one.value, ast.Constant)}
    return constants.get(name) is True


def _may_be_left_out(column: ast.expr) -> bool:
    if not isinstance(column, ast.Call):
        return False
    return _is_true(column, "nullable") or any(
        one.arg == "server_default" and isinstance(one.value, ast.Constant) for one in column.keywords
    )


@pytest.mark.parametrize("step", NEW_STEPS, ids=lambda path: path.stem)
def test_a_step_lets_the_release_before_go_on(step: Path) -> None:
    assert faults_of(step.read_text()) == []


@pytest.mark.parametrize(
    ("line", "is_fine"),
    [
        ('op.drop_column("devices", "tier")', False),
        ('op.alter_column("devices", "tier", nullable=False)', False),
        ('op.create_index("ix_x", "devices", ["tier"])', False),
        ('op.create_table("made", a)\nop.create_index("ix_x", "made", ["a"])', True),
        ('op.add_column("devices", sa.Column("x", sa.Text))', False),
        ('op.add_column("devices", sa.Column("x", sa.Text, nullable=False))', False),
        ('op.add_column("devices", sa.Column("x", sa.Text, nullable=True))', True),
        ('op.add_column("devices", sa.Column("x", sa.Text, nullable=False, server_default=""))', True),
        ('op.add_column("devices", sa.Column("x", sa.Text, server_default=sa.func.now()))', False),
        ('op.add_column("devices", column)', False),
        ('op.execute("UPDATE devices SET x = 1")', False),
    ],
)
def test_what_would_stop_the_release_before_is_noticed(line: str, is_fine: bool) -> None:
    assert (faults_of(line) == []) is is_fine
