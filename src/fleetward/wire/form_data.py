"""multipart/form-data (RFC 7578) as a machine that is fed bytes: a 4 GiB upload never lies in memory.

Limits: 16 parts, 8 KiB of headers a part. A part without a name, a nested multipart or a transfer encoding is
refused; what comes before the first and after the last boundary is ignored, as RFC 2046 section 5.1.1 wants.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from typing import TypeAlias

from fleetward.base.errors import InvalidInputError

MAX_PARTS = 16
MAX_HEADER_BYTES = 8 * 1024
_MAX_BOUNDARY_CHARS = 70  # RFC 2046 section 5.1.1
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")


@dataclass(frozen=True)
class PartBegan:
    """A field begins: the form's name for it, and the file's name when it is one."""

    name: str
    file_name: str | None


@dataclass(frozen=True)
class PartContent:
    content: bytes


@dataclass(frozen=True)
class PartEnded:
    pass


FormEvent: TypeAlias = PartBegan | PartContent | PartEnded
_State: TypeAlias = Callable[[list[FormEvent]], bool]


def parse_boundary(content_type: str) -> bytes:
    """Return the boundary that a Content-Type header names.

    Raises:
        InvalidInputError: another type, or no valid boundary.
    """
    header = Message()
    header["content-type"] = content_type[:MAX_HEADER_BYTES].replace("\r", "").replace("\n", "")
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise InvalidInputError("request body: expected multipart/form-data, found another type")
    if len(boundary) > _MAX_BOUNDARY_CHARS or not _BOUNDARY.fullmatch(boundary):
        raise InvalidInputError("request body: expected a boundary as RFC 2046 allows, found another")
    return boundary.encode()


class FormParser:
    """Feed it chunks in order, then call `finish`."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter may stand at the very start, without the line break before it.
        self._rest = b"\r\n"
        self._state: _State = self._skip_preamble
        self._parts = 0
        self._is_over = False

    def feed(self, chunk: bytes) -> list[FormEvent]:
        """Return what `chunk` completes.

        Raises:
            InvalidInputError: not the form RFC 7578 describes, or over a limit.
        """
        self._rest += chunk
        events: list[FormEvent] = []
        while self._state(events):
            pass
        return events

    def finish(self) -> None:
        """Pass when the closing boundary has been seen.

        Raises:
            InvalidInputError: the body was cut short.
        """
        if not self._is_over:
            raise InvalidInputError("form: expected its closing boundary, found the end of the body")

    def _skip_preamble(self, _events: list[FormEvent]) -> bool:
        return self._cut_at_delimiter() is not None and self._go(self._after_delimiter)

    def _after_delimiter(self, _events: list[FormEvent]) -> bool:
        if self._rest.startswith(b"--"):
            self._is_over = True
            return self._go(self._skip_epilogue)
        line, found, rest = self._rest.partition(b"\r\n")
        if not found:
            self._limit_headers(self._rest)
            return False
        if line.strip(b" \t"):  # only transport padding may follow a boundary
            raise InvalidInputError("form: expected a line break after a boundary, found more text")
        # The header block ends at an empty line; keeping this break lets a part have no headers at all.
        self._rest = b"\r\n" + rest
        return self._go(self._headers)

    def _headers(self, events: list[FormEvent]) -> bool:
        block, found, rest = self._rest.partition(b"\r\n\r\n")
        self._limit_headers(block)
        if not found:
            return False
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidInputError(f"form: expected at most {MAX_PARTS} parts, found more")
        events.append(_parse_part_headers(block))
        self._rest = rest
        return self._go(self._content)

    def _content(self, events: list[FormEvent]) -> bool:
        content = self._cut_at_delimiter()
        if content is not None:
            events += [PartContent(content)] if content else []
            events.append(PartEnded())
            return self._go(self._after_delimiter)
        safe = len(self._rest) - len(self._delimiter) + 1  # the rest may be the start of a delimiter
        if safe > 0:
            events.append(PartContent(self._rest[:safe]))
            self._rest = self._rest[safe:]
        return False

    def _skip_epilogue(self, _events: list[FormEvent]) -> bool:
        self._rest = b""
        return False

    def _cut_at_delimiter(self) -> bytes | None:
        """Return what stands before the next delimiter and drop both; None when there is none yet."""
        before, found, rest = self._rest.partition(self._delimiter)
        if not found:
            if self._state == self._skip_preamble:
                self._rest = self._rest[-len(self._delimiter) :]
            return None
        self._rest = rest
        return before

    def _go(self, state: _State) -> bool:
        self._state = state
        return True

    def _limit_headers(self, block: bytes) -> None:
        if len(block) > MAX_HEADER_BYTES:
            raise InvalidInputError(f"form: expected at most {MAX_HEADER_BYTES} bytes of headers, found more")


def _parse_part_headers(block: bytes) -> PartBegan:
    header = Message()
    for line in block.decode("utf-8", "replace").split("\r\n"):
        field, _, value = line.partition(":")
        if field.strip():
            header[field.strip().lower()] = value.strip()
    if "content-transfer-encoding" in header:  # RFC 7578 section 4.7: deprecated, and ours to refuse
        raise InvalidInputError("form: expected parts as they are, found a transfer encoding")
    disposition = "content-disposition"
    name = header.get_param("name", header=disposition)
    if header.get_content_disposition() != "form-data" or not isinstance(name, str):
        raise InvalidInputError("form: expected a name for each part, found none")
    return PartBegan(name, header.get_filename())
