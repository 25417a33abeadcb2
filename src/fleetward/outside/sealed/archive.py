"""An archive of files, sealed: what `age --decrypt FILE | tar -t` shows."""

import hashlib
import io
import re
import tarfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from fleetward.base.errors import CorruptDataError
from fleetward.outside.sealed.age import LOG_WORK, SealedReader, SealedWriter

_CHUNK_BYTES = 256 * 1024
_MAX_NAME_CHARS = 1_000
_PLAIN = re.compile(r"[^/\x00-\x1f]+")


@dataclass(frozen=True)
class Member:
    """One file of an archive. Its content is read while it is the current one, once."""

    name: str
    mode: int
    size: int
    _content: IO[bytes]

    def read(self) -> Iterator[bytes]:
        """Yield the content in pieces. Raises CorruptDataError."""
        left = self.size
        while left:
            with _telling_damage(self.name):
                piece = self._content.read(min(left, _CHUNK_BYTES))
            if not piece:
                raise _broken(self.name)
            left -= len(piece)
            yield piece

    def read_all(self, *, max_bytes: int) -> bytes:
        """Return a small content. Raises CorruptDataError, also over one that is not small."""
        if self.size > max_bytes:
            raise CorruptDataError(
                f"backup: {self.name}: expected at most {max_bytes} bytes, found {self.size}"
            )
        return b"".join(self.read())


class ArchiveWriter:
    """Writes files into a sealed archive and remembers what they were.

    Attributes:
        digests: SHA-256 of each file's content, by its name, in order.
    """

    def __init__(self, file: IO[bytes], passphrase: bytes, *, log_work: int = LOG_WORK) -> None:
        """Begin an archive in `file`; see `SealedWriter`."""
        self.digests: dict[str, bytes] = {}
        self._sealed = SealedWriter(file, passphrase, log_work=log_work)
        self._tar = tarfile.open(  # noqa: SIM115 - `finish` closes it
            fileobj=cast("BinaryIO", self._sealed), mode="w|", format=tarfile.PAX_FORMAT
        )

    def add(self, name: str, content: bytes, *, mode: int = 0o600) -> None:
        self._add(name, io.BytesIO(content), len(content), mode)

    def add_file(self, name: str, path: Path, *, mode: int = 0o600) -> None:
        """Add a file as long as it is when it is opened. Raises OSError."""
        with path.open("rb") as file:
            self._add(name, file, file.seek(0, io.SEEK_END), mode)

    def finish(self) -> None:
        self._tar.close()
        self._sealed.finish()

    def _add(self, name: str, content: BinaryIO, size: int, mode: int) -> None:
        content.seek(0)
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, mode
        watched = _Watched(content)
        self._tar.addfile(info, cast("IO[bytes]", watched))
        self.digests[name] = watched.digest.digest()


class _Watched:
    """Hashes what is read through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, count: int) -> bytes:
        content = self._file.read(count)
        self.digest.update(content)
        return content


def read_archive(file: IO[bytes], passphrase: bytes) -> Generator[Member, None, None]:
    """Yield the files of a sealed archive in order; it is proven whole when this ends.

    Names are relative, without `.` and `..`, and no name comes twice: whoever follows them stays inside.

    Raises:
        WrongPassphraseError: the passphrase does not open it.
        CorruptDataError: it is no such archive, or not as it was sealed.
    """
    sealed = SealedReader(file, passphrase)
    seen: set[str] = set()
    with _telling_damage("its list"):
        tar = tarfile.open(fileobj=cast("BinaryIO", sealed), mode="r|")  # noqa: SIM115 - closed below
    with tar:
        while (info := _next(tar)) is not None:
            if not info.isreg() or not _is_plain(info.name) or info.name in seen:
                raise CorruptDataError(f"backup: expected files with plain names, found {info.name[:80]!r}")
            seen.add(info.name)
            content = tar.extractfile(info)
            if content is None:
                raise _broken(info.name)
            yield Member(info.name, info.mode & 0o755, info.size, content)
        while sealed.read(_CHUNK_BYTES):
            pass
    if not sealed.is_at_end:
        raise _broken("its end")


def verify_archive(file: IO[bytes], passphrase: bytes, digests: dict[str, bytes]) -> None:
    """Pass when an archive, read back, holds just these files with this content. Raises CorruptDataError."""
    found: dict[str, bytes] = {}
    for member in read_archive(file, passphrase):
        digest = hashlib.sha256()
        for piece in member.read():
            digest.update(piece)
        found[member.name] = digest.digest()
    if found != digests:
        names = sorted(name for name in {*found, *digests} if found.get(name) != digests.get(name))
        raise CorruptDataError(
            f"backup: expected to read back what was written, found {names[0]} different",
            hint="Look at the disk; take the backup again elsewhere.",
        )


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    with _telling_damage("its list"):
        return tar.next()


def _is_plain(name: str) -> bool:
    levels = name.split("/")
    return len(name) <= _MAX_NAME_CHARS and all(
        _PLAIN.fullmatch(level) and level not in {".", ".."} for level in levels
    )


@contextmanager
def _telling_damage(where: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise _broken(where) from error


def _broken(where: str) -> CorruptDataError:
    return CorruptDataError(
        f"backup: {where}: expected it as it was written, found it damaged",
        hint="Take another copy of the backup: this one cannot be trusted.",
    )
