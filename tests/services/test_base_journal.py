"""What changes is recorded in its own transaction, or does not change."""

from pathlib import Path

import pytest

from fleetward.base import journal
from fleetward.base.clock import SystemClock
from fleetward.base.db import Database, Tx
from fleetward.features.audit import service as audit


def test_a_change_is_recorded_in_its_own_transaction(db: Database) -> None:
    with db.write("operator:ann") as tx:
        first = journal.record(tx, "device.registered", "device:d1", model="m")
        second = journal.record(tx, "device.revoked", "device:d1")
    with db.read() as tx:
        entries = [entry for entry, _ in audit.search(tx)]
    assert [one.sequence for one in entries] == [first, second]
    assert [(one.actor, one.action, one.subject, one.details) for one in entries] == [
        ("operator:ann", "device.registered", "device:d1", {"model": "m"}),
        ("operator:ann", "device.revoked", "device:d1", {}),
    ]


def test_a_record_of_what_was_rolled_back_is_none(db: Database) -> None:
    def work(tx: Tx) -> None:
        journal.record(tx, "device.registered", "device:d1")
        raise KeyError

    with pytest.raises(KeyError):
        db.write_together("operator:ann", work)
    with db.read() as tx:
        assert list(audit.search(tx)) == []


def test_work_done_together_is_recorded_too(db: Database) -> None:
    assert db.write_together("device:d1", lambda tx: journal.record(tx, "device.renewed", "device:d1")) == 0


def test_a_transaction_that_reads_records_nothing(db: Database) -> None:
    with db.read() as tx, pytest.raises(RuntimeError, match="one that writes"):
        journal.record(tx, "device.registered", "device:d1")


def test_a_database_without_journal_takes_no_change(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'db.sqlite3'}", SystemClock())
    try:
        with db.write("operator:ann") as tx, pytest.raises(RuntimeError, match="with a journal"):
            journal.record(tx, "device.registered", "device:d1")
    finally:
        db.close()
