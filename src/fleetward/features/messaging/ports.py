"""What messaging needs from outside."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

from fleetward.features.messaging.model import Presence
from fleetward.wire.telemetry import Record


@dataclass(frozen=True)
class WatchItem:
    """Something a device did just now.

    Attributes:
        kind: `telemetry`, `log`, `metrics`, `shadow` or `presence`.
        time: RFC 3339.
    """

    kind: str
    device: str
    time: str
    stream: str
    value: Any


class TelemetryLog(Protocol):
    """What devices have sent, as far back as it is kept. Blocks: call it from a thread."""

    def read_last(self, device: str, kind: str, stream: str, limit: int) -> list[Record]:
        """Return the last `limit` records, oldest first.

        Args:
            kind: `telemetry`, `log` or `metrics`.
            stream: a telemetry stream, "" for all of the kind.

        Raises:
            UnavailableError: NATS does not answer.
        """
        ...


class Watcher(Protocol):
    """What a device does now."""

    def watch(self, device: str) -> AsyncGenerator[WatchItem, None]:
        """Yield what the device does from now on, until the caller stops."""
        ...


class PresenceBook(Protocol):
    def find_presence(self, device: str) -> Presence | None:
        """Return whether the device is connected, None when it never was."""
        ...
