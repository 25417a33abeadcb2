"""What the audit log asks of the world outside."""

from typing import Protocol


class Witness(Protocol):
    """Keeps signed notes where who alters the database does not reach: another disk, another machine."""

    def find_last(self) -> str | None:
        """Return the note appended last, None before the first.

        Raises:
            UnavailableError: it cannot be read.
        """
        ...

    def append(self, note: str) -> None:
        """Keep a note for good; it is on disk when this returns.

        Raises:
            UnavailableError: it cannot be written.
        """
        ...

    def read(self) -> list[str]:
        """Return all notes, oldest first.

        Raises:
            UnavailableError: it cannot be read.
        """
        ...
