"""What a person's terminal is told: nothing that it would obey, or that would turn the text around."""

import os
import re
import sys
import unicodedata

import click

# What click.style makes of the colours above, bold and their end; nothing that hides, moves or asks.
_OURS = re.compile(r"(\x1b\[(?:0|1|2|3[1-6]|9[0-7])m)")


# Signs that our own texts use: ellipsis, arrow, dash, times, middle dot.
_PLAIN = str.maketrans({"\u2026": "...", "\u2192": "->", "\u2013": "-", "\u00d7": "x", "\u00b7": "."})


def visible(text: str, *, keep: str = "") -> str:
    r"""Return text with each character that is not printable, or that has no shape of its own, as `\x1b`.

    Args:
        keep: such characters that may stay.
    """
    return "".join(
        one if one in keep or not _is_unseen(one) else one.encode("unicode_escape").decode() for one in text
    )


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text of any origin: colours of ours stay, every other control character becomes visible."""
    parts = _OURS.split(text)
    shown = [part if number % 2 else visible(part, keep="\n\t") for number, part in enumerate(parts)]
    stream = sys.stderr if err else sys.stdout
    text = _in_charset("".join(shown), stream.encoding)
    click.echo(text, err=err, nl=nl, color=False if os.environ.get("NO_COLOR") else None)


def _in_charset(text: str, encoding: str | None) -> str:
    """Return a text that a terminal of this encoding can show; signs of ours in letters, others as marks."""
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN)
        return plain.encode(encoding or "ascii", "backslashreplace").decode(encoding or "ascii")
    return text


def _is_unseen(one: str) -> bool:
    return unicodedata.category(one)[0] == "C" or one in "\u2028\u2029"
