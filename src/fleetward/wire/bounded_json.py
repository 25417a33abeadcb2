"""The one strict reader of JSON from outside; what it returns can be kept by every database and reader.

RFC 8259, and within it: at most so many bytes, levels and values; integers of 64 bits; numbers that are
finite; texts without NUL (PostgreSQL keeps none) and without lone surrogates (no UTF-8 writes them). Of a
name that stands twice in an object the last counts; since everything is written anew from the value that was
read, no second reader sees the other one.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from fleetward.base.errors import InvalidInputError, TooLargeError

T = TypeVar("T")
MAX_DEPTH = 16
# A waveform of 64 KiB fits; a million empty lists do not.
MAX_VALUES = 20_000
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1
# Without one of these no text holds a NUL and no integer is too long: most content need not be walked.
_NUL_OR_LONG_NUMBER = re.compile(rb"\\u0000|[0-9]{19}")


def parse_bounded_json(content: bytes, *, what: str, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value of a JSON text.

    Raises:
        TooLargeError: over `max_bytes`.
        InvalidInputError: not JSON as the module's rules have it, or nested deeper than `max_depth`.
    """
    check_size(content, what=what, max_bytes=max_bytes)
    try:
        value = msgspec.json.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{what}: expected JSON, found something else") from error
    check_value(value, content, what=what, max_depth=max_depth)
    return value


def parse_typed_json(
    content: bytes,
    decode: Callable[[bytes], T],
    *,
    what: str,
    expected: str,
    max_bytes: int,
    max_depth: int = MAX_DEPTH,
) -> T:
    """Return the struct in a JSON text, under the same rules.

    Args:
        decode: of a msgspec decoder for the struct.
        expected: what the struct holds, for the error: `version and state`.

    Raises:
        TooLargeError: over `max_bytes`.
        InvalidInputError: as `parse_bounded_json`, or another form.
    """
    check_size(content, what=what, max_bytes=max_bytes)
    if _may_break_a_rule(content, max_depth):
        parse_bounded_json(content, what=what, max_bytes=max_bytes, max_depth=max_depth)
    try:
        return decode(content)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"{what}: expected {expected}, found another form") from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{what}: expected JSON, found something else") from error


def check_size(content: bytes, *, what: str, max_bytes: int) -> None:
    """Pass when `content` has at most `max_bytes`. Raises TooLargeError."""
    if len(content) > max_bytes:
        raise TooLargeError(f"{what}: expected at most {max_bytes} bytes, found {len(content)}")


def check_value(value: Any, content: bytes, *, what: str, max_depth: int = MAX_DEPTH) -> None:
    """Pass when a value read from `content` keeps the module's rules. Raises InvalidInputError."""
    if not _may_break_a_rule(content, max_depth):
        return
    level, count = [value], 0
    for _ in range(max_depth + 1):
        count += len(level)
        if count > MAX_VALUES:
            raise InvalidInputError(f"{what}: expected at most {MAX_VALUES} values, found more")
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                _check_texts(one, what)
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            else:
                _check_scalar(one, what)
        if not inner:
            return
        level = inner
    raise InvalidInputError(f"{what}: expected at most {max_depth} nested levels, found more")


def _may_break_a_rule(content: bytes, max_depth: int) -> bool:
    """Whether the value must be walked: brackets bound its depth, with commas its count, from above."""
    opened = content.count(b"{") + content.count(b"[")
    return (
        opened > max_depth
        or opened + content.count(b",") >= MAX_VALUES
        or _NUL_OR_LONG_NUMBER.search(content) is not None
    )


def _check_scalar(value: Any, what: str) -> None:
    if isinstance(value, str):
        _check_texts((value,), what)
    elif isinstance(value, int) and not _MIN_INTEGER <= value <= _MAX_INTEGER:
        raise InvalidInputError(f"{what}: expected integers of at most 64 bits, found a longer one")


def _check_texts(texts: Any, what: str) -> None:
    if any("\0" in text for text in texts):
        raise InvalidInputError(f"{what}: expected text without NUL, found one")
