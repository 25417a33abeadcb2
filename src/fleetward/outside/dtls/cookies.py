"""Cookies of DTLS hellos (RFC 6347 section 4.2.1): proof that a client receives at its address.

The secret changes every 30 s, so that a cookie is good for a minute at most, and covers the random of the
session that its address has: whoever recorded a hello with its cookie ends no session by sending it again.
"""

import hmac
import os

_SECRET_S = 30.0


class Cookies:
    """Makes cookies and knows its own again. `now_s` counts monotonic seconds."""

    def __init__(self, now_s: float) -> None:
        self._secret, self._before = os.urandom(32), os.urandom(32)
        self._since_s = now_s

    def make(self, address: object, session: bytes | None, now_s: float) -> bytes:
        """Return the cookie for an address with this session's random, None when it has no session."""
        self._turn(now_s)
        return _cookie(self._secret, address, session)

    def knows(self, given: bytes, address: object, session: bytes | None, now_s: float) -> bool:
        """Whether we made the cookie for this address and session, at most two changes of the secret ago."""
        self._turn(now_s)
        found = [_cookie(secret, address, session) for secret in (self._secret, self._before)]
        return any([hmac.compare_digest(given, one) for one in found])  # noqa: C419 - each is compared

    def _turn(self, now_s: float) -> None:
        age_s = now_s - self._since_s
        if age_s < _SECRET_S:
            return
        # After two terms without a hello the secret before is as old as the one now.
        self._before = self._secret if age_s < 2 * _SECRET_S else os.urandom(32)
        self._secret, self._since_s = os.urandom(32), now_s


def _cookie(secret: bytes, address: object, session: bytes | None) -> bytes:
    return hmac.digest(secret, repr((address, session)).encode(), "sha256")
