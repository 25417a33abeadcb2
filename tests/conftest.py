"""Fixtures all suites share."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetward.base.db import Database, Tx
from fleetward.migrations.runner import migrate
from support.clock import ManualClock
from support.database import open_database
from support.doors import find_undeclared
from support.postgres import postgres_database


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands at noon until a test moves it."""
    return ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    """A migrated, empty database: SQLite always, PostgreSQL where its server is installed."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'fleetward.sqlite3'}"
    else:
        url = request.getfixturevalue("postgres_url")
    database = open_database(url, clock)
    migrate(database)
    yield database
    undeclared = find_undeclared(database)
    database.close()
    assert undeclared == [], "events of a kind or severity that no door declares"


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with postgres_database(request.config) as url:
        yield url


@pytest.fixture
def tx(db: Database) -> Iterator[Tx]:
    """A write transaction of its own, rolled forward when the test ends well."""
    with db.write("operator:test") as opened:
        yield opened


@pytest.fixture
def minute() -> timedelta:
    return timedelta(minutes=1)
