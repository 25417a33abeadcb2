"""A worker that starts beside others leaves alone what they write."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fleetward.base.db import Database
from fleetward.features.messaging import handlers
from fleetward.features.pki.model import identify_device
from fleetward.outside.nats.runtime import ROLES, MessagingSettings, start_messaging
from fleetward.outside.nats.streams import ADMISSION_BUCKET, Retention, kv_subject
from support.broker import Rig, wait_for
from support.hierarchy import TRUST_DOMAIN

_MIB = 1024**2


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.start()
    yield rig
    rig.close()


def stored_at(rig: Rig, device: str) -> int:
    """Return under which number the bucket holds a device's record."""
    js = rig.messaging.shared.js
    found = js.get_last_msg(f"KV_{ADMISSION_BUCKET}", kv_subject(ADMISSION_BUCKET, device))
    return rig.loop.run(found).seq or 0


def test_a_record_written_while_the_database_was_read_is_of_this_database(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken for another database's, it would have the bucket emptied under the workers that run."""
    rig.enroll("before-1")
    wait_for(lambda: rig.messaging.shared.admission.find("before-1"))
    time.sleep(1)  # until its events have been heard
    before = stored_at(rig, "before-1")
    read = handlers.registry_version

    def read_while_others_write(db: Database) -> int:
        version = read(db)
        rig.enroll("during-1")
        wait_for(lambda: rig.messaging.shared.admission.find("during-1"))
        time.sleep(0.5)  # until the mirror of the one that starts has heard of it too
        return version

    monkeypatch.setattr(handlers, "registry_version", read_while_others_write)
    retention = Retention(max_bytes=100 * _MIB, max_mqtt_bytes=16 * _MIB)
    second = rig.loop.run(
        start_messaging(
            MessagingSettings(rig.address, None, ROLES, retention=retention),
            rig.keys,
            db=rig.db,
            clock=rig.clock,
            identify=partial(identify_device, TRUST_DOMAIN),
        )
    )
    try:
        assert stored_at(rig, "before-1") == before
        assert second.shared.admission.find("during-1") is not None
    finally:
        rig.loop.run(second.stop())
