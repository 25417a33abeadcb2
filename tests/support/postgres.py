"""A PostgreSQL server of the run's own, on a Unix socket, started once; a database of its own per test."""

import atexit
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import sqlalchemy as sa


def _find_binaries() -> Path | None:
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    found = candidates[0] if candidates else None
    if found is None and (on_path := shutil.which("initdb")):
        found = Path(on_path)
    return found.parent if found else None


class PostgresServer:
    """A server in a folder of its own; `start` and `stop` it as often as the test needs."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix="fleetward-pg-"))
        self._as_user: dict[str, int] = {}
        if os.geteuid() == 0:  # initdb refuses root
            nobody = pwd.getpwnam("postgres") if _has_user("postgres") else pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid}
        self._run("initdb", "-U", "fleetward", "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Return when it answers."""
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=200"
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Return when it is gone: `fast` tells its clients, `immediate` is a crash."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def remove(self) -> None:
        """End it where it runs, and delete its folder."""
        self._run("pg_ctl", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self) -> str:
        """Return the name of a new, empty database."""
        name = f"t_{secrets.token_hex(6)}"
        self._execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://fleetward@/{name}?host={self.folder}"

    def _execute(self, statement: str) -> None:
        admin = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as conn:
            conn.exec_driver_sql(statement)
        admin.dispose()

    def _run(self, program: str, *options: str, check: bool = True) -> None:
        subprocess.run(
            [self._binaries / program, "-D", self.folder / "cluster", *options],
            check=check, capture_output=True, cwd=self.folder, **self._as_user,  # type: ignore[call-overload]
        )  # fmt: skip


@cache
def _start_server() -> PostgresServer | None:
    """Return the run's server, None where PostgreSQL is not installed."""
    binaries = _find_binaries()
    if binaries is None:
        return None
    server = PostgresServer(binaries)
    server.start()
    atexit.register(server.remove)
    return server


def _has_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Yield a running server for one test alone, to be stopped and started; skip where none is installed."""
    binaries = _find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL server programs (initdb, pg_ctl) are not installed")
    server = PostgresServer(binaries)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextmanager
def postgres_database(config: pytest.Config) -> Iterator[str]:
    """Yield the URL of an empty database; skip where PostgreSQL's server is not installed."""
    del config
    server = _start_server()
    if server is None:
        pytest.skip("PostgreSQL server programs (initdb, pg_ctl) are not installed")
    name = server.create_database()
    try:
        yield server.url(name)
    finally:
        server.drop_database(name)


@contextmanager
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL a fixture's parameter asks for: "" for SQLite, else of an empty PostgreSQL database."""
    if request.param == "sqlite":
        yield ""
    else:
        with postgres_database(request.config) as url:
            yield url
