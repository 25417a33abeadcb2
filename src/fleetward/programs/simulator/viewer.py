"""A viewer without a screen: opens a view as the page does, and looks at the first picture's bytes."""

import json
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Origin

from fleetward.base.errors import UnavailableError
from fleetward.outside.http.platform import Api
from fleetward.wire.fmp4 import Kind, Splitter

_WAIT_S = 20.0
_VIEW_PATH = "/api/v1/media/view"


@dataclass(frozen=True)
class FirstPicture:
    """What a viewer got: the stream's RFC 6381 codec, and seconds until its first fragment."""

    codec: str
    after_s: float


def watch_once(api: Api, device: str) -> FirstPicture:
    """Watch `device` until its first picture.

    Raises:
        UnavailableError: no picture came; says what the relay said.
        FleetwardError: the platform grants no view, as it names it.
    """
    granted = api.post(f"/devices/{device}/views")
    started = time.monotonic()
    place = urlsplit(granted["url"])
    context = ssl.create_default_context(cafile=None if api.ca_file is None else str(api.ca_file))
    try:
        with connect(
            f"wss://{place.netloc}{_VIEW_PATH}", ssl=context, proxy=None, open_timeout=_WAIT_S,
            origin=Origin(f"https://{place.netloc}"), max_size=None,
        ) as socket:  # fmt: skip
            socket.send(granted["ticket"])
            codec = str(json.loads(socket.recv(_WAIT_S))["codec"])
            splitter = Splitter()
            while True:
                content = socket.recv(_WAIT_S)
                segments = splitter.feed(content if isinstance(content, bytes) else content.encode())
                if any(segment.kind is Kind.KEY for segment in segments):
                    return FirstPicture(codec, time.monotonic() - started)
    except (OSError, TimeoutError, WebSocketException) as error:
        raise UnavailableError(
            f"view of {device}: expected video within {_WAIT_S:.0f} s, found: {error}",
            hint="Is ffmpeg installed? The camera's log tells.",
        ) from error
