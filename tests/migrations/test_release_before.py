"""What the release before (commit 7b9f55b) left is opened and served by this one, and its devices renew."""

import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward.base.db import Database
from fleetward.base.events import list_events
from fleetward.wire import est
from support.clock import ManualClock
from support.enrollment import Keypair
from support.real_apps import RealApps

SAVED = Path(__file__).parent / "saved" / "7b9f55b.tar.gz"
# An hour after it was left: certificates and CRLs are as old as they would be.
NOW = datetime(2026, 11, 26, 3, tzinfo=UTC)


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[RealApps]:
    with tarfile.open(SAVED) as archive:
        archive.extractall(tmp_path, filter="data")
    apps = RealApps(tmp_path, ManualClock(NOW))
    yield apps
    apps.close()


def certificate_of(db: Database, device: str) -> x509.Certificate:
    with db.read() as tx:
        query = sa.text("SELECT der FROM certificates WHERE device = :device")
        return x509.load_der_x509_certificate(tx.conn.execute(query, {"device": device}).scalars().one())


def test_everything_it_knew_is_there(apps: RealApps) -> None:
    def ask(path: str) -> Any:
        answer = apps.operator("GET", path)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    states = {one["id"]: one["state"] for one in ask("/devices")["devices"]}
    assert states["cam-2"] == "quarantined"
    assert states["cam-3"] == "revoked"
    assert ask("/devices/cam-1/shadow")["desired"] == {"rate": 5}
    assert [one["name"] for one in ask("/devices/cam-1/commands")] == ["ping"]
    assert {(one["model"], one["version"]) for one in ask("/releases?limit=10")} == {
        ("cam", "1.0.0"), ("lock", "1.0.0"),
    }  # fmt: skip


def test_its_event_feed_goes_on(apps: RealApps) -> None:
    with apps.rooms.db.read() as tx:
        before = list_events(tx, limit=5000)
    assert "certificate.issued" in {event.kind for event in before}
    assert apps.operator("POST", "/devices/cam-1/quarantine", json={"reason": "odd"}).status_code == 200
    after = before[-1].id
    page = apps.operator("GET", f"/events?after={after}").json()["events"]
    assert page[0]["id"] == after + 1
    assert "device.state_changed" in {one["kind"] for one in page}


def test_its_audit_log_is_whole(apps: RealApps) -> None:
    answer = apps.operator("GET", "/audit/verify")
    assert answer.status_code == 200, answer.text
    assert answer.json()["entries"] > 260


def test_a_device_that_it_enrolled_renews(apps: RealApps) -> None:
    peer = certificate_of(apps.rooms.db, "cam-1")
    csr = Keypair().csr_for("cam-1").public_bytes(Encoding.DER)
    answer = apps.device(peer, "POST", f"{est.PATH}/simplereenroll", content=est.render_csr(csr))
    assert answer.status_code == 200, answer.text
    assert est.parse_certificates(answer.content)[0].serial_number != peer.serial_number


def test_a_device_that_it_revoked_does_not(apps: RealApps) -> None:
    peer = certificate_of(apps.rooms.db, "cam-3")
    csr = Keypair().csr_for("cam-3").public_bytes(Encoding.DER)
    answer = apps.device(peer, "POST", f"{est.PATH}/simplereenroll", content=est.render_csr(csr))
    assert answer.status_code in (401, 403), answer.text
