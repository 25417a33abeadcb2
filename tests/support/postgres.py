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


@cache
def _start_server() -> str | None:
    """Return the folder of a running server's socket, None where PostgreSQL is not installed."""
    binaries = _find_binaries()
    if binaries is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="fleetward-pg-"))
    as_user: dict[str, int] = {}
    if os.geteuid() == 0:  # initdb refuses root
        nobody = pwd.getpwnam("postgres") if _has_user("postgres") else pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid}
    cluster = folder / "cluster"
    subprocess.run(
        [binaries / "initdb", "-D", cluster, "-U", "fleetward", "-A", "trust", "--no-sync"],
        check=True, capture_output=True, cwd=folder, **as_user,  # type: ignore[call-overload]
    )  # fmt: skip
    options = f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=200"
    subprocess.run(
        [binaries / "pg_ctl", "-D", cluster, "-w", "-l", folder / "log", "-o", options, "start"],
        check=True, capture_output=True, cwd=folder, **as_user,  # type: ignore[call-overload]
    )  # fmt: skip

    def stop() -> None:
        subprocess.run(
            [binaries / "pg_ctl", "-D", cluster, "-m", "immediate", "stop"],
            check=False, capture_output=True, cwd=folder, **as_user,  # type: ignore[call-overload]
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    return str(folder)


def _has_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


@contextmanager
def postgres_database(config: pytest.Config) -> Iterator[str]:
    """Yield the URL of an empty database; skip where PostgreSQL's server is not installed."""
    del config
    folder = _start_server()
    if folder is None:
        pytest.skip("PostgreSQL server programs (initdb, pg_ctl) are not installed")
    name = f"t_{secrets.token_hex(6)}"
    admin = sa.create_engine(
        f"postgresql+psycopg://fleetward@/postgres?host={folder}", isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield f"postgresql+psycopg://fleetward@/{name}?host={folder}"
    finally:
        with admin.connect() as conn:
            conn.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()


@contextmanager
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL a fixture's parameter asks for: "" for SQLite, else of an empty PostgreSQL database."""
    if request.param == "sqlite":
        yield ""
    else:
        with postgres_database(request.config) as url:
            yield url
