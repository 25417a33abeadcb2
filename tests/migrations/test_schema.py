import importlib
import pkgutil

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

import fleetward.features
from fleetward.base.db import Database, metadata
from fleetward.base.errors import NewerDataError
from fleetward.migrations.runner import migrate


def import_all_tables() -> None:
    for feature in pkgutil.iter_modules(fleetward.features.__path__, "fleetward.features."):
        for module in pkgutil.iter_modules(importlib.import_module(feature.name).__path__):
            if module.name.startswith("store"):
                importlib.import_module(f"{feature.name}.{module.name}")


def test_the_steps_lead_to_what_the_code_declares(db: Database) -> None:
    import_all_tables()
    with db.read() as tx:
        difference = compare_metadata(MigrationContext.configure(tx.conn), metadata)
    assert difference == []


def test_migrating_again_changes_nothing(db: Database) -> None:
    before, after = migrate(db)
    assert before == after


def test_a_database_of_a_newer_release_stops_the_program(db: Database) -> None:
    with db.write("t") as tx:
        tx.conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerDataError, match="9999"):
        migrate(db)
