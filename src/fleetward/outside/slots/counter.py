"""The anti-rollback counter of the software tier: a file, which whoever writes the disk can lower."""

from pathlib import Path

from fleetward.base.errors import CorruptDataError
from fleetward.base.files import write_secret
from fleetward.wire.manifest import MAX_COUNTER

COUNTER_FILE = "security_counter"


class FileCounter:
    """A `BootChip` without a chip: counts in a file, and extends nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read_counter(self) -> int:
        """Return the counter, 0 before it was ever raised.

        Raises:
            CorruptDataError: the file holds no counter; starting anyway would allow a rollback.
        """
        try:
            text = self._path.read_bytes()[:20].decode("ascii", "replace").strip()
        except FileNotFoundError:
            return 0
        if not text.isdigit() or int(text) > MAX_COUNTER:
            raise CorruptDataError(
                f"{self._path}: expected a security counter, found {text!r}",
                hint="Provision the device again; its counter cannot be guessed.",
            )
        return int(text)

    def advance_counter(self, to: int) -> None:
        """Raise the counter; it never goes down."""
        if to > self.read_counter():
            write_secret(self._path, f"{to}\n".encode())

    def extend_pcr(self, index: int, digest: bytes) -> None:
        """Measure into nothing: without a chip, only the event log remembers."""
