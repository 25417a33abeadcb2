import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import ConfigError, InvalidInputError
from fleetward.features.media.device import ffmpeg_arguments
from fleetward.wire.fmp4 import Kind, Segment, Splitter, codec_of, starts_with_key
from fleetward.wire.media import Attendance, Order, parse_attendance, parse_order, render


@pytest.fixture(scope="module")
def video() -> bytes:
    """Two seconds as the camera's own ffmpeg writes them."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed")
    arguments = [one for one in ffmpeg_arguments("test") if one != "-re"]
    arguments[-1:-1] = ["-t", "2"]
    return subprocess.run([program, *arguments], check=True, capture_output=True, timeout=60).stdout


def split(content: bytes, size: int) -> list[Segment]:
    splitter = Splitter()
    return [
        segment for at in range(0, len(content), size) for segment in splitter.feed(content[at : at + size])
    ]


def test_a_stream_is_cut_into_one_start_and_a_fragment_a_frame(video: bytes) -> None:
    segments = split(video, 1000)
    assert segments[0].kind is Kind.INIT
    assert [one.kind for one in segments[1:]].count(Kind.KEY) == 2  # a key frame a second
    assert len(segments) == 31
    assert codec_of(segments[0].content) == "avc1.42C016"


def test_pieces_of_any_size_give_the_same_segments(video: bytes) -> None:
    assert split(video, 7) == split(video, 100_000)


def test_nothing_is_lost_between_boxes(video: bytes) -> None:
    assert b"".join(one.content for one in split(video, 4096)) in video


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_video_or_invalid_input(content: bytes, size: int) -> None:
    try:
        split(content, size)
    except InvalidInputError:
        return


@given(st.binary(max_size=200))
def test_any_moof_says_whether_it_is_a_key_or_is_invalid(content: bytes) -> None:
    try:
        starts_with_key(b"\0\0\0\0moof" + content)
    except InvalidInputError:
        return


def test_a_box_over_its_limit_is_refused_before_it_is_held() -> None:
    with pytest.raises(InvalidInputError, match="at most"):
        Splitter().feed(b"\x7f\xff\xff\xffmdat")


def test_control_messages_read_back() -> None:
    assert parse_order(render(Order("start"))) == Order("start")
    assert parse_attendance(render(Attendance("join", "v1"))) == Attendance("join", "v1")


@given(st.binary(max_size=100))
def test_any_control_message_is_an_order_or_invalid(content: bytes) -> None:
    for parse in (parse_order, parse_attendance):
        with pytest.raises(InvalidInputError):
            parse(b"\x00" + content)


@pytest.mark.parametrize("source", ["", "-i", "--help"])
def test_a_source_is_never_an_option(source: str) -> None:
    with pytest.raises(ConfigError):
        ffmpeg_arguments(source)
