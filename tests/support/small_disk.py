"""A real file system of a few hundred kilobytes, that a test fills to its last block."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs mounted at `path`."""

    path: Path

    def fill(self) -> None:
        """Leave not a byte; what is there stays."""
        with (
            (self.path / "filler").open("ab", buffering=0) as file,
            pytest.raises(OSError, match=os.strerror(errno.ENOSPC)),
        ):
            _write_for_ever(file)

    def free(self) -> None:
        (self.path / "filler").unlink()


def _write_for_ever(file: FileIO) -> None:
    while True:
        file.write(bytes(4096))


@contextmanager
def small_disk(path: Path, *, kib: int) -> Iterator[SmallDisk]:
    """Mount one at `path`, a new folder; skip where we may not."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = f"size={kib}k,mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
