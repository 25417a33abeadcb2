import base64
import importlib
import pkgutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import fleetward.features
import fleetward.migrations
from fleetward.base.db import Database, metadata
from fleetward.base.errors import NewerDataError
from fleetward.features.audit import service as audit
from fleetward.features.audit.model.entry import render_entry
from fleetward.features.audit.model.notes import verify_checkpoint
from fleetward.features.audit.model.tree import Tree, hash_leaf
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging import service as messaging
from fleetward.features.updates import service as updates
from fleetward.migrations.runner import migrate, schema_version
from support.clock import ManualClock
from support.database import open_database
from support.saved_database import KEY_MARK

SAVED = sorted((Path(__file__).parent / "saved").glob("*.sql"))


def import_all_tables() -> None:
    for feature in pkgutil.iter_modules(fleetward.features.__path__, "fleetward.features."):
        for module in pkgutil.iter_modules(importlib.import_module(feature.name).__path__):
            if module.name.startswith("store"):
                importlib.import_module(f"{feature.name}.{module.name}")


def difference(db: Database) -> list[object]:
    import_all_tables()
    with db.read() as tx:
        return list(compare_metadata(MigrationContext.configure(tx.conn), metadata))


def steps() -> list[str]:
    """Return the names of all steps, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(Path(fleetward.migrations.__path__[0])))
    config.set_main_option("path_separator", "os")
    found = ScriptDirectory.from_config(config).walk_revisions()
    return [step.revision for step in found][::-1]


def rows_of(db: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table, by what the code declares."""
    with db.read() as tx:
        return {
            table.name: [tuple(row) for row in tx.conn.execute(table.select().order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }


def test_the_steps_lead_to_what_the_code_declares(db: Database) -> None:
    assert difference(db) == []


def test_migrating_again_changes_nothing(db: Database) -> None:
    before, after = migrate(db)
    assert before == after


def test_a_database_of_a_newer_release_stops_the_program(db: Database) -> None:
    with db.write("t") as tx:
        tx.conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerDataError, match="9999"):
        migrate(db)
    with db.read() as tx:
        assert schema_version(tx.conn) == "9999"


@pytest.mark.parametrize("step", steps())
def test_every_step_may_run_twice(db: Database, step: str) -> None:
    """Whatever restored the version alone, the step finds its work done and loses nothing."""
    import_all_tables()
    before = rows_of(db)
    at = steps().index(step)
    with db.write("t") as tx:
        if at:
            change = sa.text("UPDATE alembic_version SET version_num = :before")
            tx.conn.execute(change, {"before": steps()[at - 1]})
        else:
            tx.conn.execute(sa.text("DELETE FROM alembic_version"))
    assert migrate(db)[1] == steps()[-1]
    assert difference(db) == []
    assert rows_of(db) == before


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'e.sqlite3'}" if is_sqlite else request.getfixturevalue("postgres_url")
    database = open_database(url, clock)
    yield database
    database.close()


def test_several_processes_may_migrate_at_once(empty: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = [started.result() for started in [pool.submit(migrate, empty) for _ in range(4)]]
    assert sorted(str(before) for before, _ in found) == [steps()[-1]] * 3 + ["None"]
    assert difference(empty) == []


def test_a_start_cut_off_among_the_steps_leaves_nothing(empty: Database) -> None:
    class PowerCut(BaseException):
        pass

    def cut(_conn: object, _cursor: object, statement: str, *_more: object) -> None:
        if "media_views" in statement and statement.lstrip().startswith("CREATE"):
            raise PowerCut

    sa.event.listen(empty.engine, "before_cursor_execute", cut)
    with pytest.raises(PowerCut):
        migrate(empty)
    sa.event.remove(empty.engine, "before_cursor_execute", cut)
    with empty.read() as tx:
        assert sa.inspect(tx.conn).get_table_names() == []
    migrate(empty)
    assert difference(empty) == []


@pytest.fixture(params=SAVED, ids=lambda path: path.stem)
def saved(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    """A database as an earlier release left it."""
    path = tmp_path / "saved.sqlite3"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(request.param.read_text())
    database = open_database(f"sqlite:///{path}", clock)
    yield database
    database.close()


def test_there_is_a_saved_database_with_rows_in_every_table() -> None:
    import_all_tables()
    text = SAVED[-1].read_text()
    empty_tables = {name for name in metadata.tables if f'INSERT INTO "{name}"' not in text}
    assert empty_tables == set(), "save one at the newest step: python -m support.saved_database"


def test_a_saved_database_is_upgraded_and_loses_no_row(saved: Database) -> None:
    with saved.read() as tx:
        tables = sa.inspect(tx.conn).get_table_names()
        before = {name: tx.conn.scalar(sa.text(f'SELECT count(*) FROM "{name}"')) for name in tables}  # noqa: S608
    assert migrate(saved)[1] == steps()[-1]
    assert difference(saved) == []
    with saved.read() as tx:
        tables = sa.inspect(tx.conn).get_table_names()
        after = {name: tx.conn.scalar(sa.text(f'SELECT count(*) FROM "{name}"')) for name in tables}  # noqa: S608
    assert {name: after[name] for name in before} == before


def test_a_saved_database_is_read_by_this_release(saved: Database, request: pytest.FixtureRequest) -> None:
    migrate(saved)
    with saved.read() as tx:
        states = {one.id: one.state for one in devices.list_devices(tx)}
        assert states["cam-1"] is DeviceState.ACTIVE
        assert states["cam-2"] is DeviceState.QUARANTINED
        assert states["cam-3"] is DeviceState.REVOKED
        assert states["cam-8"] is DeviceState.REGISTERED
        assert [one.version for one in updates.list_releases(tx, model="cam")] == ["1.0.0"]
        assert messaging.get_shadow(tx, "cam-1").desired == {"rate": 5}
        assert [one.name for one in messaging.list_commands(tx, "cam-1")] == ["ping"]
        entries = list(audit.search(tx, after=-1, limit=5000))
        notes = [note for _, note in audit.list_checkpoints(tx)]
    text = request.node.callspec.params["saved"].read_text()
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(text.splitlines()[0].removeprefix(KEY_MARK)))
    tree, roots = Tree(), {}
    for entry, leaf in entries:
        assert hash_leaf(render_entry(entry)) == leaf
        tree, _ = tree.append(leaf)
        roots[tree.size] = tree.root
    checkpoints = [verify_checkpoint(note, key) for note in notes]
    assert [one.root for one in checkpoints] == [roots[one.size] for one in checkpoints]
    assert checkpoints
