from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.clock import parse_time, render_time
from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_device_id, parse_duration, parse_trust_domain, render_duration


@pytest.mark.parametrize("good", ["a", "cam-1", "Cam_1", "0", "a" * 64])
def test_plain_names_are_device_ids(good: str) -> None:
    assert parse_device_id(good) == good


@pytest.mark.parametrize(
    "bad", ["", "a.b", "a/b", "a+b", "a#b", "a*b", "a>b", "a b", "a\n", "-a", "a-", "é", "$SYS", "a" * 65]
)
def test_what_a_topic_or_url_would_read_otherwise_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_device_id(bad)


@given(st.text(max_size=200))
def test_any_text_is_an_id_or_invalid_input(text: str) -> None:
    try:
        assert parse_device_id(text) == text
    except InvalidInputError:
        return
    assert not set(text) & set("./+#*> \t\n$")


@given(st.integers(1, 10**8))
def test_durations_read_back(seconds: int) -> None:
    value = timedelta(seconds=seconds)
    assert parse_duration(render_duration(value), what="x") == value


@pytest.mark.parametrize("bad", ["", "0s", "5", "h", "1w", "-1s", "1.5h", "1h "])
def test_other_durations_are_refused(bad: str) -> None:
    with pytest.raises(InvalidInputError, match="lifetime"):
        parse_duration(bad, what="lifetime")


@pytest.mark.parametrize("bad", ["", "Upper.org", "a_b", "-a", "a/b"])
def test_trust_domains_are_dns_like(bad: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_trust_domain(bad)


def test_times_read_back() -> None:
    at = datetime(2026, 11, 23, 17, 0, 0, 123000, tzinfo=UTC)
    assert parse_time(render_time(at)) == at


@pytest.mark.parametrize("bad", ["yesterday", "2026-11-23T17:00:00", ""])
def test_times_without_an_offset_are_refused(bad: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_time(bad)


@pytest.mark.parametrize("word", ["counts", "bulk", "import"])
def test_a_word_of_the_api_is_no_device(word: str) -> None:
    with pytest.raises(InvalidInputError, match="a word of the API"):
        parse_device_id(word)
