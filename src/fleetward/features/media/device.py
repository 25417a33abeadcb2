"""The camera's side: what can be set of it, and how ffmpeg is asked for video. Pure."""

from typing import ClassVar

from fleetward.base.agent_config import Section
from fleetward.base.errors import ConfigError

# Low delay: no B frames, a key frame a second, each frame a fragment of its own, written at once.
_ENCODE = (
    "-an", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline",
    "-pix_fmt", "yuv420p", "-g", "15", "-f", "mp4",
    "-movflags", "+frag_every_frame+empty_moov+default_base_moof", "-flush_packets", "1", "pipe:1",
)  # fmt: skip
_QUIET = ("-hide_banner", "-loglevel", "error", "-nostdin")


class Video(Section, frozen=True):
    """What the camera shows: `test` for a test picture, a device such as `/dev/video0`, or a file."""

    table: ClassVar[str] = "video"
    source: str


def ffmpeg_arguments(source: str) -> tuple[str, ...]:
    """Return ffmpeg's arguments for `test` (a test picture), a capture device, or a file played in a loop.

    Raises:
        ConfigError: the source is empty, or would be read as an option.
    """
    if not source or source.startswith("-"):
        raise ConfigError(
            f"video.source: expected test, a device such as /dev/video0 or a file, found {source!r}"
        )
    if source == "test":
        return (*_QUIET, "-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=15", *_ENCODE)
    if source.startswith("/dev/video"):
        return (*_QUIET, "-f", "v4l2", "-i", source, "-vf", "fps=15", *_ENCODE)
    return (*_QUIET, "-re", "-stream_loop", "-1", "-i", f"file:{source}", "-vf", "fps=15", *_ENCODE)
