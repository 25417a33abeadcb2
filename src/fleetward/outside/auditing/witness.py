"""A witness: one signed note a line, as JSON text, in a file that is only ever appended to.

Put it on another disk, or on a mount that this machine may only append to; `chattr +a` makes even root
take a step before removing a line.
"""

import json
import os
from pathlib import Path

from fleetward.base.errors import UnavailableError
from fleetward.base.files import sync_folder
from fleetward.features.audit.model.notes import MAX_NOTE_CHARS

_TAIL_BYTES = 8 * MAX_NOTE_CHARS  # holds the last whole line, its escapes and a torn one after it


class FileWitness:
    """Notes in a file. A line that a power cut tore has no closing quote, and is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find_last(self) -> str | None:
        """Return the note appended last, None before the first. Raises UnavailableError."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unavailable("readable", error) from error
        if size > _TAIL_BYTES:
            lines = lines[1:]
        notes = self._parse(lines)
        return notes[-1] if notes else None

    def append(self, note: str) -> None:
        """Keep a note for good; it is on disk when this returns. Raises UnavailableError."""
        try:
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                line = b"\n" * is_torn + json.dumps(note).encode() + b"\n"
                while line:
                    line = line[os.write(descriptor, line) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise self._unavailable("writable", error) from error

    def read(self) -> list[str]:
        """Return all notes, oldest first. Raises UnavailableError."""
        try:
            return self._parse(self.path.read_bytes().split(b"\n"))
        except OSError as error:
            raise self._unavailable("readable", error) from error

    def _parse(self, lines: list[bytes]) -> list[str]:
        try:
            return [str(json.loads(line)) for line in lines if line.endswith(b'"') and len(line) > 1]
        except ValueError as error:
            raise UnavailableError(
                f"audit witness {self.path}: expected a note a line, found something else"
            ) from error

    def _unavailable(self, wanted: str, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"audit witness {self.path}: expected it {wanted}, found: {error.strerror}",
            hint="No checkpoint is kept until it is; see audit.witness in fleetward.toml.",
        )
