"""How long a cookie of a DTLS hello is good, and for whom."""

import pytest

from fleetward.outside.dtls.cookies import Cookies

HERE, THERE = ("192.0.2.1", 5000), ("192.0.2.1", 5001)


@pytest.mark.parametrize(
    ("address", "session", "after_s", "known"),
    [
        (HERE, None, 0, True),
        (HERE, None, 29, True),
        (HERE, None, 30, True),
        (HERE, None, 60, False),
        (HERE, None, 3600, False),
        (THERE, None, 0, False),
        (HERE, b"another session", 0, False),
    ],
)
def test_a_cookie_is_good_for_its_address_and_session_a_minute_at_most(
    address: tuple[str, int], session: bytes | None, after_s: float, known: bool
) -> None:
    cookies = Cookies(now_s=1000)
    made = cookies.make(HERE, None, 1000)
    assert cookies.knows(made, address, session, 1000 + after_s) is known


def test_a_cookie_outlives_one_change_of_the_secret_and_not_two() -> None:
    cookies = Cookies(now_s=0)
    made = cookies.make(HERE, None, 29)
    assert cookies.knows(made, HERE, None, 31)
    assert cookies.knows(made, HERE, None, 60.9)
    assert not cookies.knows(made, HERE, None, 61)


def test_another_bytes_are_no_cookie() -> None:
    cookies = Cookies(now_s=0)
    made = cookies.make(HERE, b"session", 0)
    assert cookies.knows(made, HERE, b"session", 0)
    assert not cookies.knows(made[:-1] + bytes([made[-1] ^ 1]), HERE, b"session", 0)
    assert not cookies.knows(b"", HERE, b"session", 0)
