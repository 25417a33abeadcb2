"""multipart/form-data (RFC 7578) as it comes in: python-multipart reads it, this says what we take of it.

Limits: 16 parts, 8 KiB of headers a part. A part without a name, a nested multipart, a transfer encoding and
text before the first boundary are refused; what comes after the last one is ignored (RFC 2046 section 5.1.1).
Nothing is kept but the headers of the part under way, so a 4 GiB upload never lies in memory.
"""

import re
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fleetward.base.errors import InvalidInputError

MAX_PARTS = 16
MAX_HEADER_BYTES = 8 * 1024
_MAX_BOUNDARY_CHARS = 70  # RFC 2046 section 5.1.1
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")
_LINE_BYTES = 4  # a header's colon, space and line break


class FormSink(Protocol):
    """Takes a form field by field."""

    def begin(self, name: str) -> None:
        """Take the name of the field whose content follows."""
        ...

    def extend(self, content: bytes) -> None:
        """Take more of the field under way."""
        ...


class FormReader:
    """Feed it chunks in order, then call `finish`."""

    def __init__(self, content_type: str, sink: FormSink) -> None:
        """Read the form that a Content-Type header announces.

        Raises:
            InvalidInputError: another type, or no valid boundary.
        """
        self._sink = sink
        self._parts = 0
        self._header_bytes = 0
        self._field, self._value = bytearray(), bytearray()
        self._headers: dict[str, bytes] = {}
        self._is_over = False
        self._parser = MultipartParser(
            _parse_boundary(content_type),
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": lambda data, start, end: sink.extend(data[start:end]),
                "on_end": self._on_end,
            },
            # Ours are reached first and name themselves; these bound what no callback hears of.
            max_header_count=MAX_HEADER_BYTES,
            max_header_size=2 * MAX_HEADER_BYTES,
        )

    def feed(self, chunk: bytes) -> None:
        """Give the sink what `chunk` brings.

        Raises:
            InvalidInputError: not the form RFC 7578 describes, or over a limit; or whatever the sink raises.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidInputError(
                "form: expected parts between boundaries as RFC 7578 has them, found other bytes"
            ) from error

    def finish(self) -> None:
        """Pass when the closing boundary has been seen.

        Raises:
            InvalidInputError: the body was cut short.
        """
        if not self._is_over:
            raise InvalidInputError("form: expected its closing boundary, found the end of the body")

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidInputError(f"form: expected at most {MAX_PARTS} parts, found more")
        self._header_bytes = 0
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._count(_LINE_BYTES)
        name = self._field.decode("latin-1").lower()
        if name in self._headers:
            raise InvalidInputError(f"form: expected each header of a part once, found {name[:40]!r} twice")
        self._headers[name] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        self._sink.begin(_parse_name(self._headers))

    def _on_end(self) -> None:
        self._is_over = True

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise InvalidInputError(f"form: expected at most {MAX_HEADER_BYTES} bytes of headers, found more")


def _parse_boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type[:MAX_HEADER_BYTES])
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or boundary is None:
        raise InvalidInputError("request body: expected multipart/form-data, found another type")
    if len(boundary) > _MAX_BOUNDARY_CHARS or not _BOUNDARY.fullmatch(boundary):
        raise InvalidInputError("request body: expected a boundary as RFC 2046 allows, found another")
    return boundary


def _parse_name(headers: dict[str, bytes]) -> str:
    """Return what a part's headers call it."""
    if "content-transfer-encoding" in headers:  # RFC 7578 section 4.7: deprecated, and ours to refuse
        raise InvalidInputError("form: expected parts as they are, found a transfer encoding")
    if headers.get("content-type", b"").strip().lower().startswith(b"multipart/"):  # section 4.3
        raise InvalidInputError("form: expected parts as they are, found a multipart inside")
    kind, options = parse_options_header(headers.get("content-disposition", b"").decode("latin-1"))
    name = options.get(b"name")
    if kind != b"form-data" or name is None:
        raise InvalidInputError("form: expected a name for each part, found none")
    return name.decode("utf-8", "replace")
