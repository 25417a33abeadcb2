"""An untouched log verifies, goes on, and is found by who, what and when."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.base.db import Database
from fleetward.base.errors import KeyUnavailableError
from fleetward.base.events import list_events
from fleetward.features.audit import service, store
from fleetward.features.audit.model.entry import AuditTamperedError
from fleetward.features.audit.service import Keeper
from fleetward.outside.auditing.witness import FileWitness
from support.audit import AuditRig
from support.clock import ManualClock


@pytest.fixture
def rig(db: Database, tmp_path: Path, clock: ManualClock) -> Iterator[AuditRig]:
    made = AuditRig(db, tmp_path, clock)
    yield made
    made.db.close()


def kinds(rig: AuditRig) -> list[str]:
    with rig.db.read() as tx:
        return [event.kind for event in list_events(tx)]


def test_an_untouched_log_verifies_with_its_witness(rig: AuditRig) -> None:
    rig.append(300, checkpoint_every=100)
    with rig.db.read() as tx:
        tree = service.verify(tx, rig.notary.public_key, witnessed=rig.witness.read())
        assert (tree.size, len(store.all_nodes(tx))) == (300, 1)
    assert len(rig.witness.read()) == 3


@pytest.mark.parametrize(("entries", "rests"), [(249, 0), (250, 1), (251, 1), (600, 2)])
def test_verifying_rests_after_every_page_and_finds_the_same(rig: AuditRig, entries: int, rests: int) -> None:
    rig.append(entries, checkpoint_every=entries)
    rested: list[int] = []
    with rig.db.read() as tx:
        plain = service.verify(tx, rig.notary.public_key)
        assert service.verify(tx, rig.notary.public_key, rest=lambda: rested.append(1)) == plain
    assert len(rested) == rests
    rig.change("DELETE FROM audit_entries WHERE sequence = 200")
    with pytest.raises(AuditTamperedError) as caught, rig.db.read() as tx:
        service.verify(tx, rig.notary.public_key, rest=lambda: rested.append(1))
    assert caught.value.details["entry"] == 200


def test_an_empty_log_verifies(rig: AuditRig) -> None:
    assert rig.keeper.keep() is None
    with rig.db.read() as tx:
        assert service.verify(tx, rig.notary.public_key).size == 0


def test_an_unchanged_log_gets_no_second_checkpoint(rig: AuditRig) -> None:
    rig.append(3, checkpoint_every=3)
    assert rig.keeper.keep() is None
    rig.start()
    assert rig.keeper.keep() is None
    assert len(rig.witness.read()) == 1


def test_a_log_that_grows_while_it_is_read_verifies(rig: AuditRig) -> None:
    rig.append(20)
    stopped = threading.Event()

    def grow() -> None:
        while not stopped.is_set():
            rig.append(1)

    with ThreadPoolExecutor(1) as pool:
        growing = pool.submit(grow)
        try:
            for _ in range(20):
                with rig.db.read() as tx:
                    head = service.read_head(tx)
                    time.sleep(0.02)
                    assert service.verify(tx, rig.notary.public_key) == head.tree
        finally:
            stopped.set()
        growing.result()


def test_several_entries_of_one_transaction_are_all_sealed(rig: AuditRig) -> None:
    with rig.db.write("operator:alice") as tx:
        for _ in range(3):
            service.append(tx, "device.registered", "device:d")
    with rig.db.read() as tx:
        assert service.verify(tx, rig.notary.public_key).size == 3


def test_a_log_goes_on_after_a_restart_and_a_change_rolled_back(rig: AuditRig) -> None:
    rig.append(3, checkpoint_every=2)

    def fail() -> None:
        with rig.db.write("operator:alice") as tx:
            service.append(tx, "device.registered", "device:d1")
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError):
        fail()
    rig.append(2, checkpoint_every=2)
    rig.start()
    rig.append(2, checkpoint_every=2)
    with rig.db.read() as tx:
        assert service.verify(tx, rig.notary.public_key, witnessed=rig.witness.read()).size == 7
    assert kinds(rig) == []


def test_a_log_written_before_heads_were_signed_is_adopted(rig: AuditRig, db: Database) -> None:
    for _ in range(3):
        with db.write("operator:alice") as tx:
            service.append(tx, "device.registered", "device:d1")
    with rig.db.write("system:audit") as tx:
        service.adopt(tx, rig.notary)
    rig.append(2, checkpoint_every=5)
    with rig.db.read() as tx:
        assert service.verify(tx, rig.notary.public_key).size == 5


def test_a_sealed_log_takes_no_entry_without_its_key(rig: AuditRig, db: Database) -> None:
    rig.append(1)
    with pytest.raises(KeyUnavailableError), db.write("operator:alice") as tx:
        service.append(tx, "device.registered", "device:d1")
    with rig.db.read() as tx:
        assert service.verify(tx, rig.notary.public_key).size == 1


def test_entries_are_found_by_actor_device_action_and_time(rig: AuditRig) -> None:
    start = rig.clock.now()
    rig.append(4)
    rig.append(3, actor="operator:bob")
    with rig.db.write("operator:bob") as tx:
        service.append(tx, "operator_x.invited", "operator:eve")
        service.append(tx, "operator.invited", "operator:eve")

    def found(**filters: object) -> list[int]:
        with rig.db.read() as tx:
            return [entry.sequence for entry, _ in service.search(tx, **filters)]  # type: ignore[arg-type]

    assert found(actor="operator:bob") == [4, 5, 6, 7, 8]
    assert found(subject="device:d1") == [1, 5]
    assert found(action="device.") == [0, 1, 2, 3, 4, 5, 6]
    assert found(action="operator_") == [7], "an underscore is no wildcard"
    assert found(since=start + timedelta(seconds=3), until=start + timedelta(seconds=5)) == [2, 3]
    assert found(action="device.", after=2, limit=2) == [3, 4]


def test_an_unreachable_witness_is_told_once_and_stops_checkpoints(rig: AuditRig, tmp_path: Path) -> None:
    gone = tmp_path / "unmounted" / "witness"
    keeper = Keeper(rig.db, rig.notary, FileWitness(gone))
    rig.append(2)
    assert (keeper.keep(), keeper.keep()) == (None, None)
    assert kinds(rig) == ["audit.witness_unavailable"]
    gone.parent.mkdir()
    kept = keeper.keep()
    assert kept is not None
    assert FileWitness(gone).read() == [kept.note]


def test_a_witness_torn_by_a_power_cut_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "witness"
    witness = FileWitness(path)
    assert witness.find_last() is None
    witness.append("first\n\n\u2014 a b\n")
    path.write_bytes(path.read_bytes() + b'"second\\n')
    assert witness.find_last() == "first\n\n\u2014 a b\n"
    witness.append("third")
    assert witness.read() == ["first\n\n\u2014 a b\n", "third"]


def test_a_long_witness_gives_its_last_note(tmp_path: Path) -> None:
    witness = FileWitness(tmp_path / "witness")
    for number in range(100):
        witness.append(f"{number}\n" + "x" * 700)
    assert (witness.find_last() or "").startswith("99\n")
