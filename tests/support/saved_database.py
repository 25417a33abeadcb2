"""Saves a database of the present release as SQL, with rows in every table, for later ones to upgrade from.

In tests/: `python -m support.saved_database > migrations/saved/NNNN.sql`, NNNN being the newest step.
"""

import base64
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleetward.base.clock import SystemClock
from fleetward.base.events import list_events
from fleetward.base.feature import Hears
from fleetward.features.audit import service as audit
from fleetward.features.audit.service import Keeper
from fleetward.features.events.service import hear
from fleetward.wire.shipment import ShipmentRow, render_manifest
from support.access import AccessHouse
from support.authority import Authority
from support.real_apps import RealApps
from support.updates import SBOM

KEY_MARK = "-- audit key: "
# What only a chip, or a device with a session, brings about.
_DEVICE_ROWS = (
    "INSERT INTO attestation_challenges VALUES ('chal_1','cam-1','nonce',x'00',NULL,NULL,NULL,1,9)",
    "INSERT INTO attestation_keys VALUES ('cam-1','ab',x'0102',1)",
    "INSERT INTO attestation_appraisals VALUES (1,'cam-1',1,1,9,'[]','1.0.0',1,0)",
    "INSERT INTO enrollment_attempts VALUES ('att_1','cam-1','enroll','ab',NULL,9)",
    "INSERT INTO told_lines VALUES ('cam-1','ab',1)",
    # What only a room above messaging brings about.
    "INSERT INTO holds VALUES ('cam-1','watch','odd traffic',1)",
)


def save(folder: Path) -> str:
    """Live a little on a platform in `folder`; return its database as SQL."""
    apps = RealApps(folder, SystemClock())
    _live(apps)
    public = base64.b64encode(apps.rooms.audit.notary.public_key.public_bytes_raw()).decode()
    path = apps.rooms.folder.database
    apps.close()
    with closing(sqlite3.connect(path)) as db:
        for row in _DEVICE_ROWS:
            db.execute(row)
        return "\n".join([f"{KEY_MARK}{public}", *db.iterdump(), ""])


def _live(apps: RealApps) -> None:
    apps.add_model("cam")
    for number in (1, 2, 3):
        apps.enroll(f"cam-{number}", "cam")
    factory = Ed25519PrivateKey.generate()
    public = factory.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    rows = [ShipmentRow("cam-8", "cam", "tpm-ek", "8" * 64)]
    shipment = render_manifest(rows, factory, factory="plant", batch="b-1", at=apps.rooms.clock.now())
    digest = "d" * 64
    vendor = Authority("Vendor").certificate.public_bytes(Encoding.PEM).decode()
    for path, body in (
        ("/factories", {"name": "plant", "public_key": public}),
        ("/devices", {"id": "cam-9", "model": "cam"}),
        ("/devices/cam-2/quarantine", {"reason": "odd"}),
        ("/devices/cam-3/revoke", {"reason": "stolen"}),
        ("/devices/cam-1/commands", {"name": "ping"}),
        ("/devices/cam-1/views", None),
        ("/models/cam/references", {"kind": "boot_stage", "digest": digest, "version": "1"}),
        ("/attestation/ek-roots", {"pem": vendor}),
    ):
        assert apps.operator("POST", path, json=body).status_code < 300, path
    assert apps.operator("POST", "/devices/import", content=shipment).status_code == 200
    assert (
        apps.operator("PUT", "/devices/cam-1/shadow/desired", json={"state": {"rate": 5}}).status_code == 200
    )
    form = {"sbom": ("s.json", SBOM), "image": ("i.bin", b"firmware")}
    fields = {"model": "cam", "version": "1.0.0"}
    assert apps.operator("POST", "/releases", data=fields, files=form).status_code == 201
    assert apps.device(None, "GET", "/pki/crl/device-ca.crl").status_code == 200
    assert apps.operator("GET", "/audit/checkpoints").status_code == 200
    _operate(apps)


def _operate(apps: RealApps) -> None:
    """Let operators come in every way there is."""
    house = AccessHouse(apps.console, apps.rooms.db, apps.rooms.access)
    ada, _ = house.first_operator()
    house.sign_in(ada)
    house.join_by_password(house.invite(ada, "bob", {"role": "viewer", "group": "default"}))
    house.invite(ada, "eve")
    assert ada.post("/tokens", {"name": "ci", "scopes": ["device.read"]}).status_code == 201
    house.begin_device_code("laptop")
    assert ada.post("/reviews", {"title": "Spring"}).status_code == 201
    assert ada.post("/filters", {"name": "odd", "filter": {"state": "quarantined"}}).status_code == 201
    alert = next(one for one in ada.get("/events").json()["events"] if one["severity"] == "warning")
    assert ada.post(f"/events/{alert['id']}/acknowledge", {"note": "seen"}).status_code == 200
    assert ada.post("/break-glass", {"reason": "cameras stream to a stranger"}).status_code == 201
    apps.add_model("lock")
    form = {"sbom": ("s.json", SBOM), "image": ("i.bin", b"firmware")}
    fields = {"model": "lock", "version": "1.0.0"}
    assert apps.operator("POST", "/releases", data=fields, files=form).json()["state"] == "pending"
    assert ada.post("/releases/lock/1.0.0/approve").json()["state"] == "pending"
    refused = house.browser().post("/signin/password", {"name": "bob", "password": "wrong", "totp": "0"})
    assert refused.status_code == 401
    with apps.rooms.db.read() as tx:
        event = list_events(tx)[0]
    assert hear(apps.rooms.db, Hears("saved", frozenset({event.kind}), lambda _tx, _event: None), event)
    with apps.rooms.db.write("operator:test") as tx:
        for number in range(260):  # subtrees of 256 entries are stored
            audit.append(tx, "model.added", f"model:m-{number}")
    assert Keeper(apps.rooms.db, apps.rooms.audit.notary, None).keep() is not None


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.stdout.write(save(Path(made)))
