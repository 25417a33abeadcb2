"""Byte ranges: RFC 9110 section 14, a case for every branch and boundary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.features.updates.http.ranges import Span, parse_range

ETAG = '"aa"'
WHOLE = Span(0, 100, is_partial=False)


def parse(header: str | None, *, total: int = 100, if_range: str | None = None) -> Span | None:
    return parse_range(header, total=total, etag=ETAG, if_range=if_range)


@pytest.mark.parametrize(
    ("header", "start", "length"),
    [
        ("bytes=0-", 0, 100),
        ("bytes=0-0", 0, 1),
        ("bytes=7-7", 7, 1),
        ("bytes=7-8", 7, 2),
        ("bytes=40-", 40, 60),
        ("bytes=99-", 99, 1),
        ("bytes=99-99", 99, 1),
        ("bytes=0-98", 0, 99),
        ("bytes=0-99", 0, 100),
        ("bytes=0-100", 0, 100),
        ("bytes=50-999999999999999999", 50, 50),
        ("bytes=-1", 99, 1),
        ("bytes=-99", 1, 99),
        ("bytes=-100", 0, 100),
        ("bytes=-101", 0, 100),
        (" bytes=3-4 ", 3, 2),
    ],
)
def test_a_range_inside_is_sent(header: str, start: int, length: int) -> None:
    assert parse(header) == Span(start, length, is_partial=True)


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-100", "bytes=101-200", "bytes=-0"])
def test_a_range_outside_is_not_satisfiable(header: str) -> None:
    assert parse(header) is None


@pytest.mark.parametrize(
    "header",
    [
        None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1-2,4-5", "items=0-1", "bytes=8-7",
        "bytes=0--1", "bytes= 0-1", "bytes=0-1;", f"bytes={'9' * 19}-", "Bytes=0-1x", "bytes=1",
        "bytes=150-120",
    ],
)  # fmt: skip
def test_what_is_no_single_range_is_ignored(header: str | None) -> None:
    assert parse(header) == WHOLE


@pytest.mark.parametrize("if_range", [None, ETAG, f"  {ETAG} "])
def test_a_range_of_this_representation_is_sent(if_range: str | None) -> None:
    assert parse("bytes=1-", if_range=if_range) == Span(1, 99, is_partial=True)


@pytest.mark.parametrize("if_range", ['"bb"', 'W/"aa"', "aa", "", "Thu, 01 Jan 2026 00:00:00 GMT"])
@pytest.mark.parametrize("header", ["bytes=1-", "bytes=-1", "bytes=100-"])
def test_a_range_of_another_representation_brings_the_whole(header: str, if_range: str) -> None:
    """Otherwise a device would join the end of new firmware to the start of old."""
    assert parse(header, if_range=if_range) == WHOLE


def test_nothing_can_be_cut_from_nothing() -> None:
    assert parse(None, total=0) == Span(0, 0, is_partial=False)
    assert parse("bytes=0-", total=0) is None
    assert parse("bytes=-0", total=0) is None


@given(
    st.text(max_size=60) | st.from_regex(r"bytes=\d{0,20}-\d{0,20}", fullmatch=True), st.integers(0, 10**6)
)
def test_junk_never_leads_outside(header: str, total: int) -> None:
    span = parse(header, total=total)
    if span is not None:
        assert 0 <= span.start <= span.start + span.length <= total
        assert span.is_partial or (span.start, span.length) == (0, total)
