"""A large artifact on its way to a file: resumed where it stopped, never longer than was promised."""

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from fleetward.base.errors import FleetwardError, UnavailableError
from fleetward.features.updates.device.memory import ImageTarget
from fleetward.features.updates.ports import ArtifactFetcher, Download

_OK, _PARTIAL = 200, 206
_RESERVE_BYTES = 1024 * 1024  # the device writes other things too
_BUDGET_BYTES = 16 * 1024 * 1024
_BUDGET_S = 2.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskFullError(FleetwardError):
    """No room for the artifact on the device."""

    code = "disk_full"


class ArtifactMismatchError(FleetwardError):
    """What came is not what was promised."""

    code = "artifact_mismatch"


class PartFile:
    """One artifact in a file. `advance` until it is complete, then `verify`."""

    def __init__(self, path: Path, fetch: ArtifactFetcher) -> None:
        self._path = path
        self._fetch = fetch
        self._open: ExitStack | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._file: BinaryIO | None = None
        self._received = 0

    @property
    def path(self) -> Path:
        return self._path

    def advance(self, url: str, target: ImageTarget) -> int:
        """Receive for a while and return how many bytes are on disk; `target.length` when it is complete.

        Raises:
            UnavailableError: the connection broke or the server refused; what came is kept.
            DiskFullError: there is no room; what came is kept, for the caller to discard.
            ArtifactMismatchError: more came than was promised.
        """
        try:
            if self._open is None and not self._begin(url, target):
                return target.length
            return self._receive(target)
        except OSError as error:
            self.close()
            if error.errno in _FULL:
                raise DiskFullError(f"download: expected room for it, found {error.strerror}") from error
            raise UnavailableError(f"download: expected the disk to take it, found {error}") from error
        except BaseException:
            self.close()
            raise

    def verify(self, target: ImageTarget) -> None:
        """Pass when the file is exactly what was promised.

        Raises:
            ArtifactMismatchError: length or digest differ, or the file is not there.
        """
        sha256, sha512, length = hashlib.sha256(), hashlib.sha512(), 0
        try:
            with self._path.open("rb") as file:
                while chunk := file.read(_RESERVE_BYTES):
                    sha256.update(chunk)
                    sha512.update(chunk)
                    length += len(chunk)
        except OSError as error:
            raise ArtifactMismatchError(f"download: expected it on disk, found {error.strerror}") from error
        if length != target.length:
            raise ArtifactMismatchError(f"download: expected {target.length} bytes, found {length}")
        if (sha256.hexdigest(), sha512.hexdigest()) != (target.sha256, target.sha512):
            raise ArtifactMismatchError("download: expected the signed digests, found others")

    def discard(self) -> None:
        """Delete what came so far."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of connection and file; what came stays."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _begin(self, url: str, target: ImageTarget) -> bool:
        """Open connection and file; return whether anything is left to receive."""
        present = self._path.stat().st_size if self._path.exists() else 0
        if present > target.length:
            self._path.unlink()
            present = 0
        if present == target.length:
            return False
        self._check_room(target.length - present)
        with ExitStack() as stack:
            answer = stack.enter_context(self._fetch(url, offset=present))
            self._received = _offset_of(answer, present)
            self._file = stack.enter_context(self._path.open("ab"))
            self._file.truncate(self._received)
            self._chunks = answer.chunks
            self._open = stack.pop_all()
        return True

    def _receive(self, target: ImageTarget) -> int:
        file, budget, end_s = self._file, _BUDGET_BYTES, time.monotonic() + _BUDGET_S
        assert file is not None  # noqa: S101 - `_begin` has opened it
        for chunk in self._chunks:
            self._received += len(chunk)
            budget -= len(chunk)
            if self._received > target.length:
                raise ArtifactMismatchError(f"download: expected {target.length} bytes, found more")
            file.write(chunk)
            if budget <= 0 or time.monotonic() > end_s:
                file.flush()
                return self._received
        file.flush()
        os.fsync(file.fileno())
        self.close()
        if self._received < target.length:
            raise UnavailableError(
                f"download: expected {target.length} bytes, found the connection ended after {self._received}"
            )
        return self._received

    def _check_room(self, wanted: int) -> None:
        room = os.statvfs(self._path.parent)
        free = room.f_bavail * room.f_frsize
        if free < wanted + _RESERVE_BYTES:
            raise DiskFullError(
                f"download: expected {wanted + _RESERVE_BYTES} bytes of room on the device, found {free}"
            )


def _offset_of(answer: Download, asked: int) -> int:
    """Return where the body starts: at what was asked for, or at the start.

    Raises:
        UnavailableError: the server sends something else.
    """
    if answer.status == _OK:
        return 0
    starts = f"bytes {asked}-"
    if answer.status == _PARTIAL and answer.headers.get("content-range", "").startswith(starts):
        return asked
    raise UnavailableError(f"download: expected it from byte {asked} on, found HTTP status {answer.status}")
