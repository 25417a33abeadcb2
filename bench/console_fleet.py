"""A fleet of 100,000 devices in SQLite and in PostgreSQL, for the console's benchmark."""

import importlib
import os
import pkgutil
import pwd
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import fleetward.features
from fleetward.base.clock import SystemClock
from fleetward.base.db import Database, Tx, metadata
from fleetward.migrations.runner import migrate

DEVICES = 100_000
MODELS = ("camera", "lock", "meter", "sensor")
_STATES = ("active",) * 90 + ("registered",) * 4 + ("quarantined",) * 3 + ("enrolled", "revoked", "retired")
_VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "2.0.0")
_GROUPS = tuple(f"site-{number}" for number in range(20))
_BATCH = 5_000


@contextmanager
def sqlite_fleet(folder: Path) -> Iterator[Database]:
    """Yield a filled SQLite database, in WAL mode as the platform runs it."""
    yield from _filled(f"sqlite:///{folder / 'bench.sqlite3'}")


@contextmanager
def postgresql_fleet(folder: Path) -> Iterator[Database]:
    """Yield a filled database of a PostgreSQL server of our own, with its default settings."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    cluster = folder / "postgresql"
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:  # initdb refuses root
        nobody = pwd.getpwnam("postgres")
        owner = {"user": nobody.pw_uid, "group": nobody.pw_gid}
        folder.chmod(0o755)
        cluster.mkdir()
        os.chown(cluster, nobody.pw_uid, nobody.pw_gid)

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries / program), "-D", str(cluster / "data"), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **owner)

    run("initdb", "-U", "bench", "-A", "trust")
    run("pg_ctl", "-w", "-l", str(cluster / "log"), "-o", f"-k {cluster} -c listen_addresses=", "start")
    try:
        yield from _filled(f"postgresql+psycopg://bench@/postgres?host={cluster}")
    finally:
        run("pg_ctl", "-m", "fast", "stop")


def _filled(url: str) -> Iterator[Database]:
    for feature in pkgutil.iter_modules(fleetward.features.__path__, "fleetward.features."):
        for module in pkgutil.iter_modules(importlib.import_module(feature.name).__path__):
            if module.name.startswith("store"):
                importlib.import_module(f"{feature.name}.{module.name}")
    db = Database(url, SystemClock())
    try:
        migrate(db)
        with db.write("system:bench") as tx:
            _fill(tx)
        if not db.is_sqlite:  # as autovacuum does within minutes
            with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
                conn.exec_driver_sql("VACUUM ANALYZE")
        yield db
    finally:
        db.close()


def _fill(tx: Tx) -> None:
    now, dice = tx.now, random.Random(7)
    _insert(tx, "models", (
        {"id": model, "attestation": "required", "min_tier": "software", "cert_lifetime_s": 86_400,
         "appraisal_lifetime_s": 21_600, "created_at": now}
        for model in MODELS
    ))  # fmt: skip
    ids = [f"{MODELS[number % 4]}-{number:06}" for number in range(DEVICES)]
    _insert(tx, "devices", (
        {"id": device, "model": device.partition("-")[0], "group": dice.choice(_GROUPS),
         "state": dice.choice(_STATES), "tier": "tpm", "hardware_kind": "tpm-ek",
         "hardware_fingerprint": f"{number:064x}", "firmware_version": dice.choice(_VERSIONS),
         "created_at": now - timedelta(days=90), "state_changed_at": now - timedelta(seconds=number * 60),
         "state_reason": "attestation was good"}
        for number, device in enumerate(ids)
    ))  # fmt: skip
    _insert(tx, "certificates", (
        {"serial": f"{number:x}", "issuer": "ca", "device": device, "not_before": now,
         "not_after": now + timedelta(hours=24), "issued_at": now, "der": bytes(700)}
        for number, device in enumerate(ids)
    ))  # fmt: skip
    _insert(tx, "attestation_appraisals", (
        {"device": device, "at": now, "good": number % 1000 != 0, "expires_at": now + timedelta(hours=6),
         "reasons": "[]", "firmware_version": "1.2.0", "reset_count": 1, "restart_count": 1}
        for _ in range(3) for number, device in enumerate(ids)
    ))  # fmt: skip
    _insert(tx, "events", (
        {"at": now - timedelta(seconds=number), "kind": "session.opened", "device": device,
         "severity": "warning" if number % 500 == 0 else "info", "message": "Something happened.",
         "details": "{}", "actor": "system", "published_at": now}
        for _ in range(5) for number, device in enumerate(ids)
    ))  # fmt: skip
    reported = '{"firmware":{"state":"idle","version":"1.2.0"}}'
    _insert(tx, "shadows", (
        {"device": device, "desired": "{}", "desired_version": 0, "reported": reported,
         "reported_version": 1, "reported_at": now, "acknowledged_version": 0}
        for device in ids
    ))  # fmt: skip


def _insert(tx: Tx, table: str, rows: Iterator[dict[str, Any]]) -> None:
    statement = metadata.tables[table].insert()
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            tx.conn.execute(statement, batch)
            batch = []
    if batch:
        tx.conn.execute(statement, batch)
