"""The camera's thread: shows video to whom the platform lets watch, while this device has a session."""

import ssl
import threading
from collections.abc import Callable

from fleetward.base.agent_config import Video
from fleetward.base.errors import FleetwardError
from fleetward.outside.media.camera import Camera
from fleetward.outside.tls.client import TlsIdentity, client_context
from fleetward.programs.agent.parts import Parts
from fleetward.wire.media import INGEST_PATH


class VideoLine:
    """The device's video. It follows the session: a new certificate, and a lost line, get a new one."""

    def __init__(self, parts: Parts, video: Video, identity: Callable[[], TlsIdentity | None]) -> None:
        """Show `video.source`; `identity` is asked in the camera's thread."""
        self._parts = parts
        self._source = video.source
        self._identity = identity
        self._camera: Camera | None = None
        self._stopped = threading.Event()
        self._label = ""

    def on_session(self, label: str) -> None:
        """A session was opened with certificate `label`."""
        if self._camera is not None and self._camera.is_open and label == self._label:
            return
        self._label = label
        self.stop()
        try:
            self._start()
        except FleetwardError as error:
            self._parts.log.warning("video_off", reason=str(error))

    def stop(self) -> None:
        """End line and video."""
        self._stopped.set()
        if self._camera is not None:
            # Closing waits for the platform's answer: not here.
            threading.Thread(target=self._camera.reconnect, name="video-end", daemon=True).start()
            self._camera = None

    def _start(self) -> None:
        url = self._parts.config.server.rstrip("/").replace("https://", "wss://", 1) + INGEST_PATH
        camera = Camera(url, self._source, self._context, self._parts.log)
        stopped = threading.Event()
        threading.Thread(target=camera.run, args=(stopped,), name="video", daemon=True).start()
        self._camera, self._stopped = camera, stopped

    def _context(self) -> ssl.SSLContext | None:
        identity = self._identity()
        if identity is None:
            return None
        clock = self._parts.clock if self._parts.clock.is_off() else None
        return client_context(self._parts.config.ca_file, identity=identity, clock=clock)
