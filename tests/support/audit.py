"""A log with its own notary, on either database."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleetward.base.db import Database
from fleetward.base.events import events_table
from fleetward.features.audit import service, store
from fleetward.features.audit.service import Keeper, LogNotary
from fleetward.outside.auditing.witness import FileWitness
from support.clock import ManualClock
from support.database import open_database

ORIGIN = "example.org/audit"


class AuditRig:
    """A platform's audit log: database, notary, keeper, and a witness on what plays another disk."""

    def __init__(self, db: Database, folder: Path, clock: ManualClock) -> None:
        self.db = db
        self.url = db.engine.url.render_as_string(hide_password=False)
        self.clock = clock
        self.key = Ed25519PrivateKey.generate()
        self.witness = FileWitness(folder / "other-disk.witness")
        self.start()

    def start(self) -> None:
        """Start the platform anew: what it remembered is gone."""
        self.db.close()
        self.notary = LogNotary(self.key, ORIGIN)
        self.db = open_database(self.url, self.clock, notary=self.notary)
        self.keeper = Keeper(self.db, self.notary, self.witness)

    def change(self, *statements: str, **values: object) -> None:
        """Play who writes to the database with its own tools, beside the platform."""
        with self.db.engine.begin() as conn:
            for statement in statements:
                named = {name: value for name, value in values.items() if f":{name}" in statement}
                conn.execute(sa.text(statement), named)

    def save(self) -> Callable[[], None]:
        """Return what puts tables and witness back to what they hold now, and starts the platform anew."""
        tables = [store.entries, store.head, store.checkpoints, store.nodes, events_table]
        with self.db.engine.connect() as conn:
            rows = [[dict(row) for row in conn.execute(table.select()).mappings()] for table in tables]
        notes, now = self.witness.read(), self.clock.now()

        def restore() -> None:
            self.clock.advance(now - self.clock.now())
            self.witness.path.unlink()
            for note in notes:
                self.witness.append(note)
            with self.db.engine.begin() as conn:
                for table, saved in zip(tables, rows, strict=True):
                    conn.execute(table.delete())
                    if saved:
                        conn.execute(table.insert(), saved)
            self.start()

        return restore

    def rewrite(self, key: Ed25519PrivateKey, *, count: int, checkpoint_every: int) -> None:
        """Play who replaces the whole log, its checkpoints and its head, signed with `key`."""
        self.change(
            "DELETE FROM audit_entries",
            "DELETE FROM audit_checkpoints",
            "DELETE FROM audit_nodes",
            "UPDATE audit_head SET size = 0, peaks = :empty, note = '', kept = 0",
            empty=b"",
        )
        notary = LogNotary(key, ORIGIN)
        forger = open_database(self.url, self.clock, notary=notary)
        keeper = Keeper(forger, notary, None)
        for number in range(count):
            with forger.write("operator:nobody") as tx:
                service.append(tx, "device.registered", f"device:d{number}")
            if number % checkpoint_every == checkpoint_every - 1:
                keeper.keep()
        forger.close()

    def append(self, count: int, *, checkpoint_every: int = 0, actor: str = "operator:alice") -> None:
        for number in range(count):
            self.clock.advance(timedelta(seconds=1))
            with self.db.write(actor) as tx:
                sequence = service.append(tx, "device.registered", f"device:d{number}", nth=number, note="é")
            if checkpoint_every and sequence % checkpoint_every == checkpoint_every - 1:
                assert self.keeper.keep() is not None
