"""What the platform tells attestation of itself: the boot stage and the keys that devices have pinned."""

import hashlib

from fleetward import __version__
from fleetward.base.db import Database
from fleetward.features.attestation import service as attestation
from fleetward.features.updates.boot.measurement import digest_boot_stage
from fleetward.features.updates.context import UpdatesContext
from fleetward.wire.event_log import Measured
from fleetward.wire.manifest import render_pinned_keys


def register_boot_references(db: Database, context: UpdatesContext) -> None:
    """Let devices attest with this release's boot stage and with the firmware keys of this platform."""
    pinned = hashlib.sha256(render_pinned_keys([context.firmware_key.public_key()])).hexdigest()
    with db.write("system:updates") as tx:
        attestation.add_boot_reference(tx, Measured.BOOT_STAGE, digest_boot_stage().hex(), __version__)
        attestation.add_boot_reference(tx, Measured.PINNED_KEYS, pinned, "")
