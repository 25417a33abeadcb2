"""The camera's thread: shows video to whom the platform lets watch, while this device has a session."""

import ssl
import threading
from typing import TYPE_CHECKING

from fleetward.features.media.device import Video
from fleetward.outside.tls.client import client_context
from fleetward.programs.agent.abilities.ability import Ability
from fleetward.programs.agent.tools import Tools
from fleetward.wire.media import INGEST_PATH

if TYPE_CHECKING:
    from fleetward.outside.media.camera import Camera


class VideoLine(Ability):
    """The device's video. It follows the session: a new certificate, and a lost line, get a new one."""

    name = "video"
    section = Video

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._video = tools.config.find(Video)
        self._camera: Camera | None = None
        self._stopped = threading.Event()
        self._label = ""

    def on_session(self, label: str) -> None:
        video = self._video
        if video is None or self.tools.core.is_degraded:
            return
        if self._camera is not None and self._camera.is_open and label == self._label:
            return
        self._label = label
        self.stop()
        self._show(video)

    def stop(self) -> None:
        """End line and video."""
        self._stopped.set()
        if self._camera is not None:
            # Closing waits for the platform's answer: not here.
            threading.Thread(target=self._camera.reconnect, name="video-end", daemon=True).start()
            self._camera = None

    def _show(self, video: Video) -> None:
        from fleetward.outside.media.camera import Camera  # noqa: PLC0415 - only cameras pay for it

        tools = self.tools
        url = tools.config.server.rstrip("/").replace("https://", "wss://", 1) + INGEST_PATH
        camera = Camera(url, video.source, self._context, tools.log)
        stopped = threading.Event()
        tools.run_thread("video", lambda: camera.run(stopped))
        self._camera, self._stopped = camera, stopped

    def _context(self) -> ssl.SSLContext | None:
        identity = self.tools.core.identity()
        if identity is None:
            return None
        clock = self.tools.clock if self.tools.clock.is_off() else None
        return client_context(self.tools.config.ca_file, identity=identity, clock=clock)
