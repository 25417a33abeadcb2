"""Fragmented MP4 (ISO/IEC 14496-12), cut into an initialisation segment and fragments. Never decoded."""

import struct
from dataclasses import dataclass
from enum import Enum

from fleetward.base.errors import InvalidInputError

MAX_INIT_BYTES = 64 * 1024
MAX_FRAGMENT_BYTES = 2 * 1024 * 1024
_HEAD_BYTES = 8
_NON_SYNC = 0x00010000
_DATA_OFFSET, _FIRST_FLAGS, _DURATION, _SIZE, _FLAGS = 0x1, 0x4, 0x100, 0x200, 0x400
_BASE_OFFSET, _DESCRIPTION, _DEFAULT_DURATION, _DEFAULT_SIZE, _DEFAULT_FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20


class Kind(Enum):
    """What a segment is; the value stands before it on the bus."""

    INIT = b"I"
    KEY = b"K"
    DELTA = b"D"


@dataclass(frozen=True)
class Segment:
    """`ftyp` and `moov` (INIT), or one `moof` with its `mdat`; KEY when a decoder can start there."""

    kind: Kind
    content: bytes


class Splitter:
    """Takes a stream in pieces of any size, gives whole segments; holds at most one of them."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._init = b""
        self._moof = b""

    def feed(self, content: bytes) -> list[Segment]:
        """Return the segments that `content` completes.

        Raises:
            InvalidInputError: no fragmented MP4, or a box over its limit.
        """
        self._buffer += content
        found = []
        while (box := self._next_box()) is not None:
            name, whole = box
            if name in (b"ftyp", b"moov"):
                self._init = whole if name == b"ftyp" else self._init + whole
                if name == b"moov":
                    found.append(Segment(Kind.INIT, self._init))
            elif name == b"moof":
                self._moof = whole
            elif name == b"mdat" and self._moof:
                kind = Kind.KEY if starts_with_key(self._moof) else Kind.DELTA
                found.append(Segment(kind, self._moof + whole))
                self._moof = b""
        return found

    def _next_box(self) -> tuple[bytes, bytes] | None:
        if len(self._buffer) < _HEAD_BYTES:
            return None
        size, name = int.from_bytes(self._buffer[:4], "big"), bytes(self._buffer[4:8])
        limit = MAX_FRAGMENT_BYTES if name == b"mdat" else MAX_INIT_BYTES
        if not _HEAD_BYTES <= size <= limit or not name.isalnum():
            raise InvalidInputError(
                f"video: expected MP4 boxes of at most {limit} bytes, found one of {size}"
            )
        if len(self._buffer) < size:
            return None
        whole = bytes(self._buffer[:size])
        del self._buffer[:size]
        return name, whole


def starts_with_key(moof: bytes) -> bool:
    """Whether a fragment's first sample is one a decoder can start at (clause 8.8.3.1).

    Raises:
        InvalidInputError: no `traf` with a `trun` in it.
    """
    traf = _child(moof[_HEAD_BYTES:], b"traf")
    try:
        flags = _first_sample_flags(_child(traf, b"trun"))
        if flags is None:
            flags = _default_flags(_child(traf, b"tfhd"))
    except struct.error as error:
        raise InvalidInputError("video: expected whole MP4 boxes, found one cut short") from error
    return flags is not None and not flags & _NON_SYNC


def codec_of(init: bytes) -> str:
    """Return the RFC 6381 name of the H.264 in an initialisation segment, e.g. `avc1.42C01E`.

    Raises:
        InvalidInputError: no H.264 in it.
    """
    at = init.find(b"avcC")
    if at < 0 or len(init) < at + 8:
        raise InvalidInputError("video: expected H.264, found none")
    profile, compatibility, level = init[at + 5], init[at + 6], init[at + 7]
    return f"avc1.{profile:02X}{compatibility:02X}{level:02X}"


def _first_sample_flags(trun: bytes) -> int | None:
    options, count = struct.unpack_from(">II", trun, 0)
    at = 8 + (4 if options & _DATA_OFFSET else 0)
    if options & _FIRST_FLAGS:
        return int(struct.unpack_from(">I", trun, at)[0])
    if options & _FLAGS and count:
        at += 4 * bool(options & _DURATION) + 4 * bool(options & _SIZE)
        return int(struct.unpack_from(">I", trun, at)[0])
    return None


def _default_flags(tfhd: bytes) -> int | None:
    options = struct.unpack_from(">I", tfhd, 0)[0]
    if not options & _DEFAULT_FLAGS:
        return None
    at = 8 + 8 * bool(options & _BASE_OFFSET)
    at += 4 * sum(bool(options & one) for one in (_DESCRIPTION, _DEFAULT_DURATION, _DEFAULT_SIZE))
    return int(struct.unpack_from(">I", tfhd, at)[0])


def _child(content: bytes, name: bytes) -> bytes:
    """Return the content of the first box of that name."""
    at = 0
    while at + _HEAD_BYTES <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if size < _HEAD_BYTES or at + size > len(content):
            break
        if content[at + 4 : at + 8] == name:
            return content[at + _HEAD_BYTES : at + size]
        at += size
    raise InvalidInputError(f"video: expected a box {name.decode()}, found none")
