"""Byte ranges of HTTP (RFC 9110 section 14): one at a time, so that a broken download can go on."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True)
class Span:
    """`length` bytes from `start`. `is_partial` tells 206 from 200."""

    start: int
    length: int
    is_partial: bool


def parse_range(header: str | None, *, total: int, etag: str, if_range: str | None) -> Span | None:
    """Return what to send of `total` bytes; None when the range lies outside (416).

    A header that is malformed, of another unit, or of several ranges is ignored, as section 14.2 allows; so
    is one whose If-Range names another representation (section 13.1.5).
    """
    whole = Span(0, total, is_partial=False)
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or (if_range is not None and if_range.strip() != etag):
        return whole
    first, last = match[1], match[2]
    if not first and not last:
        return whole
    if not first:
        length = min(int(last), total)
        return Span(total - length, length, is_partial=True) if length else None
    start, end = int(first), int(last) if last else total - 1
    if last and end < start:
        return whole
    if start >= total:
        return None
    return Span(start, min(end, total - 1) - start + 1, is_partial=True)
