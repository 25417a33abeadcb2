"""What a renewal leaves behind, at the broker's door, seen by mosquitto's clients."""

from collections.abc import Iterator

import pytest

from fleetward.base.events import list_events
from fleetward.features.pki import service as pki
from fleetward.features.pki.model import RevocationReason
from fleetward.features.pki.store import certificates
from support.broker import Issued, Rig, wait_for


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("rig"))
    rig.start()
    yield rig
    rig.close()


def reason_of(rig: Rig, issued: Issued) -> RevocationReason | None:
    with rig.db.read() as tx:
        return pki.get_certificate(tx, issued.serial).revocation_reason


def test_the_old_certificate_is_refused_once_the_new_one_has_connected(rig: Rig) -> None:
    old = rig.enroll("renewed-1")
    assert rig.publish(old, "d/renewed-1/t/x", "1").returncode == 0
    new = rig.enroll("renewed-1")
    assert rig.publish(old, "d/renewed-1/t/x", "2").returncode == 0, "good until the new one has connected"
    assert rig.publish(new, "d/renewed-1/t/x", "3").returncode == 0
    wait_for(lambda: reason_of(rig, old) is RevocationReason.SUPERSEDED)
    wait_for(lambda: rig.publish(old, "d/renewed-1/t/x", "4").returncode != 0)
    assert rig.wait_for_event("session.refused", "renewed-1").details["reason"] == "certificate_revoked"
    assert rig.publish(new, "d/renewed-1/t/x", "5").returncode == 0


def test_a_session_on_the_old_certificate_ends(rig: Rig) -> None:
    old, new = rig.enroll("renewed-2"), rig.enroll("renewed-2")
    with rig.subscriber(old, "d/renewed-2/cmd/+") as subscriber, rig.subscriber(new, "d/renewed-2/cmd/+"):
        wait_for(lambda: subscriber.is_refused)
    assert reason_of(rig, new) is None


def test_one_who_connected_while_no_worker_ran_is_known_by_the_certificate_it_shows(rig: Rig) -> None:
    """What was granted then, nobody told: the broker is asked, and its answer names the certificate."""
    old, new = rig.enroll("renewed-3"), rig.enroll("renewed-3")
    with rig.subscriber(new, "d/renewed-3/cmd/+"):
        wait_for(lambda: reason_of(rig, old) is RevocationReason.SUPERSEDED)
        with rig.db.write("operator:test") as tx:  # as if the worker had died before it wrote this down
            table = certificates.update().where(certificates.c.serial == f"{old.serial:x}")
            tx.conn.execute(table.values(revoked_at=None, revocation_reason=None))
        rig.loop.run(rig.messaging.worker.sessions.rescan())  # type: ignore[union-attr] # it has the role
        rig.loop.run(rig.messaging.worker._presence.reconcile())  # type: ignore[union-attr]
        wait_for(lambda: reason_of(rig, old) is RevocationReason.SUPERSEDED)
    with rig.db.read() as tx:
        told = [one for one in list_events(tx, device="renewed-3") if one.kind == "certificate.revoked"]
    assert len(told) == 2
