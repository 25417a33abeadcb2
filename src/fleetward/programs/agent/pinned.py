"""Files that provisioning and the boot stage leave for those who come after them."""

from pathlib import Path

from fleetward.base.errors import ConfigError, InvalidInputError
from fleetward.features.updates.boot.record import MAX_RECORD_BYTES, BootRecord, parse_record
from fleetward.wire.manifest import MAX_PINNED_BYTES, PinnedKeys, parse_pinned_keys

MAX_TUF_ROOT_BYTES = 512_000


def load_pinned_keys(path: Path) -> PinnedKeys:
    """Return the firmware keys pinned at provisioning. Raises ConfigError."""
    try:
        return parse_pinned_keys(_read(path, MAX_PINNED_BYTES, "the pinned firmware keys"))
    except InvalidInputError as error:
        raise ConfigError(f"{path}: {error.message}") from error


def load_tuf_root(path: Path) -> bytes:
    """Return the first TUF root this device trusts. Raises ConfigError."""
    return _read(path, MAX_TUF_ROOT_BYTES, "the pinned TUF root")


def boot_record_file(state_dir: Path) -> Path:
    return state_dir / "boot.json"


def load_boot_record(state_dir: Path) -> BootRecord:
    """Return what the boot stage did at this start.

    Raises:
        ConfigError: it was not started by one.
        CorruptDataError: the record is damaged.
    """
    return parse_record(_read(boot_record_file(state_dir), MAX_RECORD_BYTES, "the boot stage's record"))


def _read(path: Path, max_bytes: int, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: expected {what}, found it unreadable ({error.strerror})",
            hint="Provision the device, and start it with: fleetward agent boot --config FILE",
        ) from error
