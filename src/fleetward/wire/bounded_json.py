"""JSON from outside: bounded in size and depth before anything looks at it."""

from typing import Any

import msgspec

from fleetward.base.errors import InvalidInputError, TooLargeError

MAX_DEPTH = 16


def parse_bounded_json(content: bytes, *, what: str, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value of a JSON text (RFC 8259).

    Raises:
        TooLargeError: over `max_bytes`.
        InvalidInputError: not JSON, or nested deeper than `max_depth`.
    """
    check_size(content, what=what, max_bytes=max_bytes)
    try:
        value = msgspec.json.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{what}: expected JSON, found something else") from error
    check_depth(value, what=what, max_depth=max_depth)
    return value


def check_size(content: bytes, *, what: str, max_bytes: int) -> None:
    """Pass when `content` has at most `max_bytes`. Raises TooLargeError."""
    if len(content) > max_bytes:
        raise TooLargeError(f"{what}: expected at most {max_bytes} bytes, found {len(content)}")


def check_depth(value: Any, *, what: str, max_depth: int = MAX_DEPTH) -> None:
    """Pass when `value` nests at most `max_depth` levels. Raises InvalidInputError."""
    level = [value]
    for _ in range(max_depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise InvalidInputError(f"{what}: expected at most {max_depth} nested levels, found more")
