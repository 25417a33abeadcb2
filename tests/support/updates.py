"""An update repository with a model in it, and what a device pins of it."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fleetward.base.db import Database
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, KeyTier, Model
from fleetward.features.updates import service
from fleetward.features.updates.context import UpdatesContext, load_updates_context
from fleetward.features.updates.model import Release
from fleetward.features.updates.repository.ceremony import create_update_repository
from fleetward.features.updates.service import NewRelease
from fleetward.outside.blobs.open import Blobs, open_blobs

MODEL = "camera-1"
PASSPHRASE = b"a passphrase for tests alone"
SBOM = json.dumps({
    "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
    "components": [{"type": "library", "name": "zlib", "version": "1.3.1"}],
}).encode()  # fmt: skip


@dataclass(frozen=True)
class Publisher:
    """A platform's update repository."""

    folder: Path
    db: Database
    blobs: Blobs
    context: UpdatesContext

    def publish(
        self, version: str, image: bytes, *, model: str = MODEL, counter: int | None = None
    ) -> Release:
        return service.publish(
            self.db, self.context, "operator:test", self.prepare(version, image, model=model, counter=counter)
        )

    def prepare(
        self, version: str, image: bytes, *, model: str = MODEL, counter: int | None = None
    ) -> NewRelease:
        path = self.folder / f"{model}-{version}.bin"
        path.write_bytes(image)
        return NewRelease(model, version, path, SBOM, counter)

    @property
    def root(self) -> bytes:
        return (self.folder / "ca" / "tuf-root.json").read_bytes()

    @property
    def pinned(self) -> bytes:
        return (self.folder / "ca" / "firmware-keys.json").read_bytes()


def make_publisher(folder: Path, db: Database, *models: str) -> Publisher:
    """Make a repository and the models, `camera-1` when none are named."""
    blobs = open_blobs((folder / "blobs").as_uri())
    create_update_repository(folder, blobs, passphrase=PASSPHRASE, now=db.clock.now())
    with db.write("operator:test") as tx:
        for model in models or (MODEL,):
            devices.add_model(tx, plain_model(model))
    return Publisher(folder, db, blobs, load_updates_context(folder, blobs))


def plain_model(model: str) -> Model:
    hours = timedelta(hours=24)
    return Model(model, AttestationPolicy.NONE, KeyTier.SOFTWARE, hours, hours)
