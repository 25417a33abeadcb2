from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleetward.base.db import Database
from fleetward.features.audit import service, store
from fleetward.features.audit.model import AuditTamperedError, Tree, hash_leaf, render_entry, verify_log
from support.clock import ManualClock

ORIGIN = "example.org/audit"


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def filled(db: Database, key: Ed25519PrivateKey, clock: ManualClock) -> Database:
    for number in range(10):
        clock.advance(timedelta(seconds=1))
        with db.write("operator:alice") as tx:
            service.append(tx, "device.registered", f"device:d{number}", number=number, note="é")
            if number % 3 == 0:
                service.checkpoint(tx, key, ORIGIN)
    with db.write("system") as tx:
        service.checkpoint(tx, key, ORIGIN)
    return db


def verify(db: Database, key: Ed25519PrivateKey) -> Tree:
    with db.read() as tx:
        return verify_log(service.search(tx, limit=1000), service.list_checkpoints(tx), key.public_key())


def test_an_untouched_log_verifies(filled: Database, key: Ed25519PrivateKey) -> None:
    assert verify(filled, key).size == 10


def test_an_unchanged_log_gets_no_second_checkpoint(filled: Database, key: Ed25519PrivateKey) -> None:
    with filled.write("system") as tx:
        assert service.checkpoint(tx, key, ORIGIN) is None


@pytest.mark.parametrize("column", ["actor", "action", "subject", "details", "at", "leaf_hash"])
def test_altering_any_column_of_an_entry_names_that_entry(
    filled: Database, key: Ed25519PrivateKey, column: str
) -> None:
    forged = {"details": '{"number":99}', "at": 5, "leaf_hash": b"\0" * 32}.get(column, "mallory")
    with filled.write("mallory") as tx:
        table = sa.table("audit_entries", sa.column("sequence"), sa.column(column))
        tx.conn.execute(sa.update(table).where(table.c.sequence == 4).values({column: forged}))
    with pytest.raises(AuditTamperedError) as caught:
        verify(filled, key)
    assert caught.value.details["entry"] == 4


def test_removing_an_entry_names_it(filled: Database, key: Ed25519PrivateKey) -> None:
    with filled.write("mallory") as tx:
        tx.conn.execute(store.entries.delete().where(store.entries.c.sequence == 6))
    with pytest.raises(AuditTamperedError) as caught:
        verify(filled, key)
    assert caught.value.details["entry"] == 6


def test_removing_the_end_is_told(filled: Database, key: Ed25519PrivateKey) -> None:
    with filled.write("mallory") as tx:
        tx.conn.execute(store.entries.delete().where(store.entries.c.sequence >= 8))
    with pytest.raises(AuditTamperedError, match="removed"):
        verify(filled, key)


def test_rewriting_an_entry_with_its_hash_breaks_the_signed_root(
    filled: Database, key: Ed25519PrivateKey
) -> None:
    with filled.write("mallory") as tx:
        entry, _ = next(service.search(tx, after=4, limit=1))
        forged = replace(entry, actor="operator:bob")
        tx.conn.execute(
            store.entries.update()
            .where(store.entries.c.sequence == 5)
            .values(actor="operator:bob", leaf_hash=hash_leaf(render_entry(forged)))
        )
    with pytest.raises(AuditTamperedError) as caught:
        verify(filled, key)
    assert caught.value.details["entry"] <= 5 <= caught.value.details["last"]  # type: ignore[operator]


def test_a_checkpoint_of_another_key_is_refused(filled: Database) -> None:
    with pytest.raises(AuditTamperedError, match="signature"):
        verify(filled, Ed25519PrivateKey.generate())


def test_a_rolled_back_change_leaves_no_entry(db: Database) -> None:
    def fail() -> None:
        with db.write("operator:alice") as tx:
            service.append(tx, "device.registered", "device:d1")
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError):
        fail()
    with db.read() as tx:
        assert store.get_tree(tx).size == 0
