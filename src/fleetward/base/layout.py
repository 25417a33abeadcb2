"""Where things lie in a platform's data folder, and what version wrote it."""

from dataclasses import dataclass
from pathlib import Path

from fleetward.base.errors import ConfigError, CorruptDataError, NewerDataError
from fleetward.base.files import write_atomically

FORMAT = 1
_MAX_DIGITS = 10


@dataclass(frozen=True)
class DataFolder:
    """The folder given as `--data`."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "fleetward.toml"

    @property
    def version(self) -> Path:
        return self.path / "VERSION"

    @property
    def admin_token(self) -> Path:
        return self.path / "admin.token"

    @property
    def ready(self) -> Path:
        return self.path / "ready.json"

    @property
    def lock(self) -> Path:
        return self.path / "running.lock"

    @property
    def restoring(self) -> Path:
        """There while a backup is being restored; who finds it without a restore finds half a platform."""
        return self.path / "RESTORING"

    @property
    def ca_file(self) -> Path:
        """The root certificate: all that clients pin."""
        return self.path / "ca" / "ca-bundle.pem"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def tls(self) -> Path:
        return self.path / "tls"

    @property
    def offline(self) -> Path:
        """Keys that only ceremonies open; meant to be moved off this machine."""
        return self.path / "offline"

    @property
    def database(self) -> Path:
        return self.path / "db" / "fleetward.sqlite3"

    @property
    def nats(self) -> Path:
        return self.path / "nats"

    @property
    def blobs(self) -> Path:
        return self.path / "blobs"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def demo(self) -> Path:
        return self.path / "demo"

    def create(self) -> None:
        """Make the folder and its rooms, owner-only; what exists stays.

        Raises:
            CorruptDataError: a restore into it was cut off.
        """
        self._check_whole()
        self.make_rooms()
        if not self.version.exists():
            write_atomically(self.version, f"{FORMAT}\n".encode())

    def make_rooms(self) -> None:
        """Make the folder and what lies in it, without the mark that a platform is there."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for room in (
            self.keys,
            self.offline,
            self.tls,
            self.database.parent,
            self.nats,
            self.blobs,
            self.logs,
        ):
            room.mkdir(mode=0o700, exist_ok=True)
        self.ca_file.parent.mkdir(mode=0o755, exist_ok=True)

    def check(self) -> None:
        """Pass when this release can read the folder.

        Raises:
            ConfigError: it is no data folder.
            CorruptDataError: its VERSION is not a number, or a restore into it was cut off.
            NewerDataError: a later release wrote it.
        """
        self._check_whole()
        if not self.version.is_file():
            raise ConfigError(
                f"{self.path}: expected a Fleetward data folder, found no VERSION file in it",
                hint=f"Create one: fleetward init --data {self.path}",
            )
        check_format(self.version.read_bytes(), what=str(self.version), folder=str(self.path))

    def _check_whole(self) -> None:
        if self.restoring.exists():
            raise CorruptDataError(
                f"{self.path}: expected a whole platform, found a restore that was cut off",
                hint=f"Run it again, to its end: fleetward restore FILE --data {self.path}",
            )


def check_format(version: bytes, *, what: str, folder: str) -> None:
    """Pass when this release can read a folder with this content of VERSION.

    Raises:
        CorruptDataError: it is not a number.
        NewerDataError: a later release wrote it.
    """
    text = version.decode(errors="replace").strip()
    if not (text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS):
        raise CorruptDataError(
            f"{what}: expected a number, found {text[:20]!r}", hint="Restore the folder from a backup."
        )
    if int(text) > FORMAT:
        raise NewerDataError(
            f"{folder}: expected data format {FORMAT} or older, found {text[:20]}",
            hint="Run the release of Fleetward that wrote it, or a later one.",
        )
