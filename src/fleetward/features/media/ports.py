"""What the relay needs from outside: a bus that any process can publish to and listen on."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fleetward.wire.fmp4 import Segment
from fleetward.wire.media import Attendance

OnAttendance = Callable[[Attendance], Awaitable[bytes | None]]


class MediaBus(Protocol):
    """Carries segments and attendance between a camera's process and its viewers' processes."""

    async def publish(self, device_id: str, segment: Segment) -> None:
        """Send a segment to whoever watches; those who cannot keep up miss it."""
        ...

    def watch(self, device_id: str) -> AbstractAsyncContextManager[AsyncIterator[Segment]]:
        """Receive segments while the block runs; a listener too slow by two seconds of video is ended."""
        ...

    def attend(self, device_id: str, handler: OnAttendance) -> AbstractAsyncContextManager[None]:
        """Have `handler` answer viewers of this camera while the block runs."""
        ...

    async def join(self, device_id: str, viewer: str, timeout_s: float) -> bytes | None:
        """Ask for the stream; return its initialisation segment, None when no camera answers."""
        ...

    async def tell(self, device_id: str, attendance: Attendance) -> None:
        """Say that a viewer is still there, or leaves."""
        ...

    def until_ended(
        self, device_id: str, serial: int | None = None
    ) -> AbstractAsyncContextManager[Awaitable[str]]:
        """Give an awaitable that is done, with the reason, when the device's session ends.

        Args:
            serial: of the certificate the line is on: done too when that one is replaced by a later one.
        """
        ...
