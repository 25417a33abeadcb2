"""Passwords: what is accepted (NIST SP 800-63B-4 section 3.1.1), and how they are kept (argon2id).

A password is one factor of two here and alone opens nothing. No composition rules, no expiry by calendar.
"""

import re
import unicodedata
from collections.abc import Iterable

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY
from zxcvbn import zxcvbn

from fleetward.base.errors import InvalidInputError

MIN_LENGTH = 15
MIN_SCORE = 4
MAX_CHARS = 256
_FLOOR_CHARS = 8
_FLOOR_SCORE = 2
_SCORED_CHARS = 72
_PRODUCT_WORDS = ("fleetward",)
_MIN_WORD_CHARS = 3
_MIN_REST_CHARS = 8


class WeakPasswordError(InvalidInputError):
    """A password that is too easy to guess; the message says why."""

    code = "weak_password"


def normalise(password: str) -> str:
    """Return the one form of a password that keyboards and systems may compose differently (UAX 15, NFKC)."""
    return unicodedata.normalize("NFKC", password)


def check_password(password: str, *, words: Iterable[str], common: frozenset[str]) -> None:
    """Pass when a password is hard enough to guess.

    Args:
        words: what belongs to the person, such as their names.
        common: passwords known from breaches, lower case.

    Raises:
        WeakPasswordError: with the first reason found.
    """
    text = normalise(password)
    if len(text) > MAX_CHARS:
        raise WeakPasswordError(f"password: expected at most {MAX_CHARS} characters, found {len(text)}")
    if len(text) < _FLOOR_CHARS:
        raise WeakPasswordError(
            f"password: expected {MIN_LENGTH} characters, or fewer that are hard to guess, found {len(text)}"
        )
    if text.lower() in common:
        raise WeakPasswordError(
            "password: expected one nobody else uses, found it in a list of passwords known from breaches"
        )
    personal = [part for word in (*words, *_PRODUCT_WORDS) for part in _parts(word)]
    rest = text.lower()
    for word in personal:
        rest = rest.replace(word, "")
    if len(rest) < _MIN_REST_CHARS:
        raise WeakPasswordError(
            "password: expected more than your name or the product's, found little else in it"
        )
    _check_score(text, personal)


def _check_score(text: str, personal: list[str]) -> None:
    found = zxcvbn(text[:_SCORED_CHARS], user_inputs=personal)
    score = int(found["score"])
    if score >= MIN_SCORE or (len(text) >= MIN_LENGTH and score >= _FLOOR_SCORE):
        return
    advice = " ".join([found["feedback"]["warning"], *found["feedback"]["suggestions"]]).strip()
    if len(text) >= MIN_LENGTH:
        raise WeakPasswordError("password: expected no simple pattern, found one", hint=advice)
    raise WeakPasswordError(
        f"password: expected {MIN_LENGTH} characters, or fewer scored {MIN_SCORE} of 4, "
        f"found {len(text)} characters scored {score}",
        hint=advice,
    )


def _parts(word: str) -> list[str]:
    return [part for part in re.split(r"\W+", normalise(word).lower()) if len(part) >= _MIN_WORD_CHARS]


class Passwords:
    """Hashes and verifies by argon2id: tens of milliseconds and the hasher's memory each.

    Whoever serves requests bounds how many at once.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """Use `hasher`; the default is RFC 9106's second recommended choice: 64 MiB, 3 passes, 4 lanes."""
        self._hasher = hasher or PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        # Verified for accounts without a password, so that these take as long as those with one.
        self._nobody = self._hasher.hash("a password that no account has")

    def hash(self, password: str) -> str:
        """Return the encoded hash: parameters, salt and tag."""
        return self._hasher.hash(normalise(password))

    def verify(self, kept: str | None, password: str) -> bool:
        """Return whether the password is the kept one. Without a kept one: False, after the same work."""
        try:
            self._hasher.verify(kept or self._nobody, normalise(password[: MAX_CHARS + 1]))
        except (VerificationError, InvalidHashError):
            return False
        return kept is not None

    def needs_rehash(self, kept: str) -> bool:
        """Return whether a hash was made with older parameters."""
        return self._hasher.check_needs_rehash(kept)
