"""A device's two firmware slots and its boot pointer, as files.

    <slots_dir>/boot.json               the boot pointer
    <slots_dir>/{a,b}/image             the firmware
    <slots_dir>/{a,b}/manifest.dsse.json

A slot is written in an order that a power cut can stop anywhere: its manifest goes first and comes back last,
so a half-written slot holds no firmware, and each step is on the medium (fsync of file and folder) before the
next.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from fleetward.base.errors import CorruptDataError, FleetwardError
from fleetward.base.files import sync_folder, write_atomically
from fleetward.features.updates.boot.pointer import (
    MAX_POINTER_BYTES,
    BootPointer,
    Slot,
    parse_pointer,
    render_pointer,
)
from fleetward.features.updates.boot.selection import SlotContent
from fleetward.wire.manifest import MAX_MANIFEST_BYTES

_CHUNK_BYTES = 256 * 1024


class SlotWriteError(FleetwardError):
    """The slot does not hold what was written to it."""

    code = "slot_write_failed"


class SlotFolder:
    """The slots in a folder. One process at a time writes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def image(self, slot: Slot) -> Path:
        return self._folder / slot / "image"

    def manifest(self, slot: Slot) -> Path:
        return self._folder / slot / "manifest.dsse.json"

    @property
    def pointer(self) -> Path:
        return self._folder / "boot.json"

    def read_pointer(self) -> BootPointer | None:
        """Return the boot pointer; None when it is missing or damaged, for the boot stage to make it anew."""
        content = _read_small(self.pointer, MAX_POINTER_BYTES)
        try:
            return None if content is None else parse_pointer(content)
        except CorruptDataError:
            return None

    def write_pointer(self, pointer: BootPointer) -> None:
        """Replace the boot pointer at once. Raises OSError; the old one stays then."""
        write_atomically(self.pointer, render_pointer(pointer))

    def read(self, slot: Slot) -> SlotContent:
        """Return what lies in a slot, unverified."""
        image = self.image(slot)
        return SlotContent(
            _read_small(self.manifest(slot), MAX_MANIFEST_BYTES),
            lambda length: measure_file(image, max_bytes=length + 1),
        )

    def write(self, slot: Slot, source: Path, envelope: bytes) -> None:
        """Put verified firmware into a slot and read it back from the medium.

        Raises:
            SlotWriteError: what was read back is not what was written.
            OSError: the disk is full or failing; the slot holds no firmware then.
        """
        image, manifest = self.image(slot), self.manifest(slot)
        image.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        sync_folder(self._folder)
        manifest.unlink(missing_ok=True)
        sync_folder(image.parent)
        image.unlink(missing_ok=True)  # room for the new one: storage may hold just two images
        try:
            written = _copy_durably(source, image)
        except OSError:
            image.unlink(missing_ok=True)
            raise
        sync_folder(image.parent)
        _drop_cache(image)
        if measure_file(image, max_bytes=written[1] + 1) != written:
            raise SlotWriteError(f"slot {slot}: expected what was written, found other bytes in it")
        write_atomically(manifest, envelope)


def prepare_slot(slots_dir: Path, image: Path, manifest: bytes) -> None:
    """Install a device's first firmware, as a factory does: slot `a`, active, nothing on trial.

    Raises:
        SlotWriteError: the medium does not hold what was written.
        OSError: the disk is full or failing.
    """
    slots_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    for slot in Slot:
        (slots_dir / slot).mkdir(mode=0o755, exist_ok=True)
    slots = SlotFolder(slots_dir)
    slots.write(Slot.A, image, manifest)
    slots.write_pointer(BootPointer(Slot.A))


def measure_file(path: Path, *, max_bytes: int) -> tuple[str, int] | None:
    """Return SHA-256 (hex) and length of a file, read up to `max_bytes`; None when there is none."""
    digest, length = hashlib.sha256(), 0
    try:
        for chunk in _read_chunks(path, max_bytes):
            digest.update(chunk)
            length += len(chunk)
    except FileNotFoundError:
        return None
    return digest.hexdigest(), length


def _copy_durably(source: Path, target: Path) -> tuple[str, int]:
    digest, length = hashlib.sha256(), 0
    with target.open("wb") as file:
        for chunk in _read_chunks(source, None):
            file.write(chunk)
            digest.update(chunk)
            length += len(chunk)
        file.flush()
        target.chmod(0o755)
        os.fsync(file.fileno())
    return digest.hexdigest(), length


def _read_chunks(path: Path, max_bytes: int | None) -> Iterator[bytes]:
    left = max_bytes
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES if left is None else min(_CHUNK_BYTES, left)):
            if left is not None:
                left -= len(chunk)
            yield chunk


def _read_small(path: Path, max_bytes: int) -> bytes | None:
    """Return a small file's bytes, one too many when it is over its limit; None when there is none."""
    try:
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _drop_cache(path: Path) -> None:
    """Ask the kernel to forget the file, so that reading it back asks the medium."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
