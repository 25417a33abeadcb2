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


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be handled.

    Attributes:
        consumer: which of ours could not: `ingest` takes in what devices send.
        device: whose message it was, None for one of our own.
        received_at, failed_at: RFC 3339.
        failures: how often it was tried, alone.
    """

    number: int
    consumer: str
    subject: str
    device: str | None
    received_at: str
    failed_at: str
    failures: int
    reason: str
    payload: bytes


@dataclass(frozen=True)
class ReplayOutcome:
    """What came of playing a dead letter again; it is gone when it was handled."""

    handled: bool
    reason: str = ""


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
