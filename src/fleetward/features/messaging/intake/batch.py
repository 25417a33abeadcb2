"""What goes through the stages: messages as they came, then typed values."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from fleetward.base import feature
from fleetward.wire.command import CommandResult
from fleetward.wire.mqtt_topics import Topic
from fleetward.wire.shadow import Reported
from fleetward.wire.telemetry import Reading


@dataclass(frozen=True, slots=True)
class DeviceMessage:
    """One message of a device, not yet looked at.

    Attributes:
        sequence: its number in the broker's stream, 0 for a message without acknowledgement (QoS 0).
    """

    topic: Topic
    unverified_payload: bytes
    received_at: datetime
    sequence: int


@dataclass(frozen=True, slots=True)
class Item:
    """A message that was read.

    Attributes:
        is_told: whether it is a log line that becomes an event.
    """

    message: DeviceMessage
    value: Reading | Reported | CommandResult
    is_told: bool = False

    @property
    def device(self) -> str:
        return self.message.topic.device


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that goes no further; over the budget of told events, a line that is kept and not told.

    Attributes:
        limit: the budget it was over, "" when it is refused for what it is.
    """

    message: DeviceMessage
    reason: str
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages between two stages."""

    items: tuple[Item, ...] = ()
    refused: tuple[Refused, ...] = ()


Stage: TypeAlias = feature.Stage[Batch]
# Tells the messages that may be read from those that are over a budget.
Admit: TypeAlias = Callable[
    [Sequence[DeviceMessage], datetime], tuple[Sequence[DeviceMessage], Sequence[Refused]]
]


def repeat_key(message: DeviceMessage, reading: Reading) -> str | None:
    """Return what a repeat is known by: the device's id for it, else the broker's number and time.

    None where neither is known: a message of QoS 0 without an id.
    """
    if reading.id:
        return hashlib.sha256(f"{message.topic.subject}\0{reading.id}".encode()).hexdigest()[:32]
    if message.sequence:
        return f"{message.sequence}-{message.received_at.timestamp():.6f}"
    return None
