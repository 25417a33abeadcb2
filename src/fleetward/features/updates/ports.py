"""What updates need from outside: a place for artifacts, a way to fetch them, slots, a counter, a chip."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleetward.base.errors import NotFoundError


class BlobMissingError(NotFoundError):
    """Nothing is stored under this name."""

    code = "blob_missing"


@dataclass(frozen=True)
class BlobInfo:
    length: int


class BlobStore(Protocol):
    """Named bytes. Names are `/`-separated segments without `.` or `..`. Thread-safe."""

    def put(self, name: str, content: bytes) -> None:
        """Store `content`, replacing what was there at once; durable on return.

        Raises:
            UnavailableError: the store does not answer or is full; what was there stays.
        """
        ...

    def put_file(self, name: str, source: Path) -> None:
        """Store a file of any size; otherwise as `put`."""
        ...

    def get(self, name: str, *, max_bytes: int) -> bytes:
        """Return all of a small blob.

        Raises:
            BlobMissingError: there is none.
            TooLargeError: it is over `max_bytes`.
            UnavailableError: the store does not answer.
        """
        ...

    def find(self, name: str) -> BlobInfo | None:
        """Return what is known of a blob, None when there is none. Raises UnavailableError."""
        ...

    def read(self, name: str, *, start: int, length: int) -> Iterator[bytes]:
        """Yield `length` bytes from `start` in chunks. Raises as `get`, at the first chunk or later."""
        ...


class Download(Protocol):
    """An answer whose body is under way. Header names are in lower case."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def chunks(self) -> Iterator[bytes]:
        """Raises UnavailableError when the connection breaks."""
        ...


class ArtifactFetcher(Protocol):
    """How a device fetches from the platform, with its certificate."""

    def __call__(self, path: str, *, offset: int = 0) -> AbstractContextManager[Download]:
        """Open `path` (from the root of the devices port) from byte `offset` on.

        The status says whether the offset was taken (206) or the body starts anew (200).

        Raises:
            UnavailableError: no answer came.
        """
        ...


class SecurityCounter(Protocol):
    """The counter below which no firmware starts: in the TPM's NV memory, or a file in the software tier."""

    def read_counter(self) -> int: ...

    def advance_counter(self, to: int) -> None:
        """Raise it to `to`; a value at or below the present one changes nothing."""
        ...


class BootChip(SecurityCounter, Protocol):
    """What the boot stage asks of the device's root of trust."""

    def extend_pcr(self, index: int, digest: bytes) -> None:
        """Extend a SHA-256 PCR; without a TPM only the event log remembers."""
        ...
