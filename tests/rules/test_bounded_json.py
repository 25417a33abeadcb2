"""The one strict reader: what it lets through every database and reader can hold."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError, TooLargeError
from fleetward.wire.bounded_json import MAX_VALUES, parse_bounded_json, parse_typed_json


class _Named(msgspec.Struct):
    name: str
    rest: Any = None


_decode = msgspec.json.Decoder(_Named).decode


def read(content: bytes, *, max_bytes: int = 1_000_000, max_depth: int = 3) -> Any:
    return parse_bounded_json(content, what="it", max_bytes=max_bytes, max_depth=max_depth)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"nope", b"NaN", b"Infinity", b"-Infinity", b'{"a": NaN}', b"1e999", b"[-1e999]",
        b'"\\u0000"', b'["a\\u0000b"]', b'{"\\u0000": 1}', b'{"a": {"b": "\\u0000"}}',
        b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\x00"',
        b"18446744073709551616", b"-9223372036854775809", b"9" * 300, b"9" * 5_000,
        b"[[[" + b"9" * 30 + b"]]]",
        b"[[[[1]]]]", b'{"a":{"a":{"a":{"a":1}}}}', b"[" * 5_000 + b"]" * 5_000,
        b"[" + b"1," * MAX_VALUES + b"1]", b"[" + b"[]," * MAX_VALUES + b"1]",
    ],
)  # fmt: skip
def test_what_somebody_cannot_hold_is_refused(content: bytes) -> None:
    for parse in (read, _typed):
        with pytest.raises(InvalidInputError):
            parse(content)


def _typed(content: bytes) -> _Named:
    wrapped = b'{"name": "x", "rest": ' + content + b"}"
    return parse_typed_json(wrapped, _decode, what="it", expected="a name", max_bytes=1_000_000, max_depth=4)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"1.1111111111111111111111", 1.1111111111111112),
        (b'"12345678901234567890123"', "12345678901234567890123"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"\\ud83d\\ude00"', "😀"),
        (b"[[[1]]]", [[[1]]]),
        (b'"[[[[[[[["', "[[[[[[[["),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b" [ ] ", []),
    ],
)
def test_what_everybody_can_hold_is_read(content: bytes, value: object) -> None:
    assert read(content) == value
    assert _typed(content).rest == value


def test_the_bounds_are_met_exactly() -> None:
    assert read(b"123", max_bytes=3) == 123
    with pytest.raises(TooLargeError):
        read(b"1234", max_bytes=3)
    with pytest.raises(TooLargeError):
        parse_typed_json(b'{"name": "a"}', _decode, what="it", expected="a name", max_bytes=12)
    most = [1] * (MAX_VALUES - 1)  # and the list itself
    assert read(json.dumps(most).encode()) == most
    with pytest.raises(InvalidInputError, match="values"):
        read(json.dumps([*most, 1]).encode())


def test_another_form_is_told_apart_from_what_is_no_json() -> None:
    for content, word in ((b'{"name": 1}', "a name"), (b"[]", "a name"), (b"{", "JSON")):
        with pytest.raises(InvalidInputError, match=word):
            parse_typed_json(content, _decode, what="it", expected="a name", max_bytes=100)


@given(st.binary(max_size=300))
def test_junk_raises_one_family_of_errors_and_else_can_be_kept(content: bytes) -> None:
    try:
        value = read(content)
    except InvalidInputError:
        return
    kept = json.dumps(value)
    assert "\\u0000" not in kept
    kept.encode()
    assert json.loads(kept) == value
