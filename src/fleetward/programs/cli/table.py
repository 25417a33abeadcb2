"""Lays a table out: for a terminal it fits, for another program it is whole. Pure; quick with many rows."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP = "  "
_MIN_WIDTH = 8
_CUT = "…"


@dataclass(frozen=True)
class Laid:
    """A table as it is shown: its lines, each a list of cells of one width, and the headings left out."""

    lines: list[list[str]]
    left_out: list[str]


def lay_out(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Laid:
    """Return a table of at most `width` columns of a terminal, its first line the headings.

    What names a row, its first cell, is shortened last. Where it does not fit, the widest column is shortened
    in the middle, down to a few characters, and then columns are left out from the right.
    """
    natural = [max(map(width_of, column)) for column in zip(headings, *rows, strict=True)]
    kept = len(natural)
    while kept > 1 and _least(natural[:kept]) > width:
        kept -= 1
    widths = _narrow(natural[:kept], width)
    lines = [
        [fit(cell, most) for cell, most in zip(row[:kept], widths, strict=True)] for row in (headings, *rows)
    ]
    return Laid(lines, list(headings[kept:]))


def render_plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table for another program: whole cells between tabs, the headings first."""
    for row in (headings, *rows):
        yield "\t".join(row)


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a wide character (UAX 11)."""
    if text.isascii():
        return len(text)
    return sum(_width(one) for one in text)


def fit(text: str, width: int) -> str:
    """Return a text in exactly `width` columns: filled up with spaces, or shortened in the middle."""
    found = width_of(text)
    if found > width:
        text = _shorten(text, width)
        found = width_of(text)
    return text + " " * (width - found)


def _least(natural: Sequence[int]) -> int:
    """Return the narrowest that these columns can be."""
    return sum(min(one, _MIN_WIDTH) for one in natural) + _gaps(natural)


def _narrow(natural: Sequence[int], width: int) -> list[int]:
    widths, room = list(natural), width - _gaps(natural)
    while sum(widths) > room:
        others = [index for index in range(1, len(widths)) if widths[index] > _MIN_WIDTH]
        if not others:
            widths[0] = max(1, room - sum(widths[1:]))
            break
        widest = max(others, key=lambda index: widths[index])
        # At once down to the next widest: a step of one would take as many rounds as the cell has letters.
        beside = max((widths[one] for one in others if one != widest), default=_MIN_WIDTH)
        floor = min(max(beside, _MIN_WIDTH), widths[widest] - 1)
        widths[widest] = max(floor, widths[widest] - (sum(widths) - room))
    return widths


def _gaps(columns: Sequence[int]) -> int:
    return len(GAP) * (len(columns) - 1)


def _shorten(text: str, width: int) -> str:
    head = (width - 1) // 2 + (width - 1) % 2
    tail = width - 1 - head
    return _take(text, head) + _CUT + _take(text[::-1], tail)[::-1]


def _take(text: str, width: int) -> str:
    taken = 0
    for index, one in enumerate(text):
        taken += _width(one)
        if taken > width:
            return text[:index]
    return text


def _width(one: str) -> int:
    if unicodedata.combining(one) or unicodedata.category(one) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" else 1
