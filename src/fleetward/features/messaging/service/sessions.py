"""What is told of sessions: opened, closed, refused."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetward.base.clock import render_time
from fleetward.base.db import Tx
from fleetward.base.events import Severity, emit
from fleetward.features.pki import service as pki


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
    """Tell of sessions that began and ended, in order; revoke the certificates that they have replaced."""
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
    pki.retire_superseded(tx, {int(one.serial, 16) for one in changes if one.is_open and one.serial})


def list_used_of_several(tx: Tx, shown: dict[str, str]) -> dict[str, int]:
    """Return the serial to each of those shown whose device has more than one live certificate.

    Args:
        shown: device to the SHA-256, in hex, of the certificate its session is on.
    """
    return pki.list_shown_of_several(tx, shown)


def retire_replaced(tx: Tx, used: Collection[int]) -> None:
    """Revoke what certificates have replaced whose sessions opened unseen."""
    pki.retire_superseded(tx, used)


def record_refusal(
    tx: Tx, kind: str, message: str, *, device: str | None, severity: Severity, repeats: int, **details: Any
) -> None:
    """Tell of something a device or stranger was refused.

    Args:
        repeats: how many equal refusals were held back since the last one told.
    """
    emit(tx, kind, message, device=device, severity=severity, repeats=repeats, **details)
