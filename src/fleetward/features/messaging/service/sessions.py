"""What is told of sessions: opened, closed, refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetward.base.clock import render_time
from fleetward.base.db import Tx
from fleetward.base.events import Severity, emit


@dataclass(frozen=True)
class SessionChange:
    """A session that began or ended on the broker.

    Attributes:
        reason: why it ended, as nats-server or we say; "" for one that began.
    """

    device: str
    is_open: bool
    at: datetime
    address: str
    serial: str
    reason: str = ""


def record_session_changes(tx: Tx, changes: Sequence[SessionChange]) -> None:
    """Tell of sessions that began and ended, in order."""
    for change in changes:
        if change.is_open:
            emit(
                tx,
                "session.opened",
                f"Device {change.device} connected from {change.address}.",
                device=change.device,
                address=change.address,
                serial=change.serial,
                at=render_time(change.at),
            )
        else:
            emit(
                tx,
                "session.closed",
                f"Device {change.device} disconnected: {change.reason}.",
                device=change.device,
                address=change.address,
                serial=change.serial,
                reason=change.reason,
                at=render_time(change.at),
            )


def record_refusal(
    tx: Tx, kind: str, message: str, *, device: str | None, severity: Severity, repeats: int, **details: Any
) -> None:
    """Tell of something a device or stranger was refused.

    Args:
        repeats: how many equal refusals were held back since the last one told.
    """
    emit(tx, kind, message, device=device, severity=severity, repeats=repeats, **details)
