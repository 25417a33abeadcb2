"""The camera, when the device has one: a thread that holds its line to the platform."""

import ssl
import threading
from collections.abc import Callable

from fleetward.base.agent_config import Video
from fleetward.base.errors import FleetwardError
from fleetward.outside.media.camera import Camera
from fleetward.outside.tls.client import TlsIdentity, client_context
from fleetward.programs.agent.parts import Parts
from fleetward.wire.media import INGEST_PATH

_END_TIMEOUT_S = 3


class VideoLine:
    """Shows the source to whoever the platform lets watch, with the certificate of the moment."""

    def __init__(self, parts: Parts, video: Video, identity: Callable[[], TlsIdentity | None]) -> None:
        self._parts, self._identity = parts, identity
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._camera: Camera | None = None
        url = parts.config.server.replace("https://", "wss://", 1) + INGEST_PATH
        try:
            self._camera = Camera(url, video.source, self._context, parts.log)
        except FleetwardError as error:
            parts.log.error("camera_unavailable", code=error.code, reason=str(error))

    def start(self) -> None:
        """Open the line; without ffmpeg the agent lives on, and has said why there is no video."""
        if self._camera is not None:
            self._thread = threading.Thread(
                target=self._camera.run, args=(self._stopped,), name="video", daemon=True
            )
            self._thread.start()

    def switch(self) -> None:
        """Come back with a new certificate."""
        if self._camera is not None:
            self._camera.reconnect()

    def stop(self) -> None:
        self._stopped.set()
        self.switch()
        if self._thread is not None:
            self._thread.join(_END_TIMEOUT_S)

    def _context(self) -> ssl.SSLContext | None:
        identity = self._identity()
        return None if identity is None else client_context(self._parts.config.ca_file, identity=identity)
