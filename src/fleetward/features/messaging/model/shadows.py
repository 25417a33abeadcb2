"""What is desired of a device and what it reports. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Shadow:
    """What is desired of a device and what it reports.

    Attributes:
        acknowledged_version: the last desired version the device says it has acted on.
    """

    device: str
    desired: dict[str, Any] = field(default_factory=dict)
    desired_version: int = 0
    desired_at: datetime | None = None
    reported: dict[str, Any] = field(default_factory=dict)
    reported_version: int = 0
    reported_at: datetime | None = None
    acknowledged_version: int = 0


def accepts_reported(shadow: Shadow, version: int) -> bool:
    """Whether a reported version is news; version 0 is a device that has lost its memory."""
    return version > shadow.reported_version or (version == 0 and shadow.reported_version > 0)
