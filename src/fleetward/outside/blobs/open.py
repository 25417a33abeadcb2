"""Blobs in a local folder or an S3-compatible store, by URL, through obstore."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from fleetward.base.errors import ConfigError, TooLargeError, UnavailableError
from fleetward.base.files import sync_folder
from fleetward.features.updates.ports import BlobInfo, BlobMissingError

_CHUNK_BYTES = 256 * 1024
_HINT = "Use file:///path or s3://bucket/prefix; credentials come from the environment (AWS_…)."


def open_blobs(url: str) -> "Blobs":
    """Return the store at `url`: `file:///…`, `s3://bucket/prefix`, or what else obstore knows.

    Raises:
        ConfigError: not such a URL.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Blobs(LocalStore(folder), folder)
    try:
        return Blobs(from_url(url), None)
    except (BaseError, ValueError) as error:
        raise ConfigError(f"blobs: expected an object store's URL, found {url!r}", hint=_HINT) from error


class Blobs:
    """A `BlobStore`. Thread-safe."""

    def __init__(self, store: ObjectStore, folder: Path | None) -> None:
        self._store = store
        self._folder = folder

    def put(self, name: str, content: bytes) -> None:
        """Store `content` at once and durably. Raises UnavailableError."""
        try:
            obstore.put(self._store, name, content)
            self._sync(name)
        except (BaseError, OSError) as error:
            raise _unavailable(name, "stored") from error

    def put_file(self, name: str, source: Path) -> None:
        """Store a file, in parts when it is large. Raises UnavailableError."""
        try:
            obstore.put(self._store, name, source)
            self._sync(name)
        except (BaseError, OSError) as error:
            raise _unavailable(name, "stored") from error

    def get(self, name: str, *, max_bytes: int) -> bytes:
        """Return a small blob. Raises BlobMissingError, TooLargeError or UnavailableError."""
        try:
            result = obstore.get(self._store, name)
            if result.meta["size"] > max_bytes:
                raise TooLargeError(
                    f"blob {name}: expected at most {max_bytes} bytes, found {result.meta['size']}"
                )
            return bytes(result.bytes())
        except FileNotFoundError as error:
            raise _missing(name) from error
        except (BaseError, OSError) as error:
            raise _unavailable(name, "read") from error

    def find(self, name: str) -> BlobInfo | None:
        """Return a blob's length, None when it is missing. Raises UnavailableError."""
        try:
            return BlobInfo(length=obstore.head(self._store, name)["size"])
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise _unavailable(name, "read") from error

    def read(self, name: str, *, start: int, length: int) -> Iterator[bytes]:
        """Yield a range in chunks of 256 KiB. Raises as `get`."""
        try:
            result = obstore.get(self._store, name, options={"range": (start, start + length)})
            for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)
        except FileNotFoundError as error:
            raise _missing(name) from error
        except (BaseError, OSError) as error:
            raise _unavailable(name, "read") from error

    def _sync(self, name: str) -> None:
        """Make a local file and its name survive a power cut: obstore renames without fsync."""
        if self._folder is None:
            return
        path = self._folder / name
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        for folder in path.relative_to(self._folder).parents:
            sync_folder(self._folder / folder)


def _missing(name: str) -> BlobMissingError:
    return BlobMissingError(f"blob {name}: expected it stored, found none")


def _unavailable(name: str, act: str) -> UnavailableError:
    return UnavailableError(
        f"blob {name}: expected it {act}, found the store failing",
        hint="See the log for the cause; look at disk space, or at the object store.",
    )
