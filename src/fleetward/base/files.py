"""Files that must be whole or absent, and secret ones that only their owner reads."""

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` with `content`: after a crash it holds the old bytes or the new, never a part.

    Writes a temporary sibling, fsyncs it, renames, fsyncs the folder.

    Raises:
        OSError: the disk is full or the folder is not writable, names `path`; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # write(2) knows no names
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def write_secret(path: Path, content: bytes) -> None:
    """As `write_atomically`, readable by the owner alone (0600)."""
    write_atomically(path, content, mode=0o600)


def sync_folder(folder: Path) -> None:
    """Make renames and unlinks in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
