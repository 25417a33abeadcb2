"""What the updates feature needs beyond the database; made once per process."""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleetward.base.errors import ConfigError
from fleetward.features.updates.ports import BlobStore
from fleetward.features.updates.repository.keys import (
    KeyFiles,
    find_latest_root,
    load_key,
    load_repository_keys,
)
from fleetward.features.updates.repository.rendering import RepositoryKeys

DEFAULT_MAX_IMAGE_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class UpdatesContext:
    """In `app.state.updates`.

    Attributes:
        uploads: a folder on this machine where images lie while they come in.
        max_image_bytes: largest image that may be published.
    """

    blobs: BlobStore
    keys: RepositoryKeys = field(repr=False)
    firmware_key: Ed25519PrivateKey = field(repr=False)
    uploads: Path
    max_image_bytes: int = DEFAULT_MAX_IMAGE_BYTES


def load_updates_context(
    folder: Path, blobs: BlobStore, *, max_image_bytes: int = DEFAULT_MAX_IMAGE_BYTES
) -> UpdatesContext:
    """Return the context of the platform in the data folder `folder`. Clears uploads a crash left.

    Raises:
        ConfigError: the update repository was never made.
        KeyUnavailableError: its keys are missing or those of another repository.
    """
    root = find_latest_root(blobs)
    if root is None:
        raise ConfigError(
            "update repository: expected its root in the blob store, found none",
            hint="Run fleetward init again; it finishes what was interrupted.",
        )
    files = KeyFiles(folder)
    uploads = folder / "uploads"
    uploads.mkdir(mode=0o700, exist_ok=True)
    for left in uploads.glob("*.part"):
        left.unlink(missing_ok=True)
    return UpdatesContext(
        blobs=blobs,
        keys=load_repository_keys(files, root),
        firmware_key=load_key(files.firmware),
        uploads=uploads,
        max_image_bytes=max_image_bytes,
    )
