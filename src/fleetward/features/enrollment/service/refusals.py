"""Refusals, told as events: what happened to whom."""

from fleetward.base.db import Tx
from fleetward.base.errors import FleetwardError
from fleetward.base.events import Severity, emit


def reason_of(error: FleetwardError) -> str:
    """Return the fixed word for why something was refused."""
    return str(error.details.get("reason", error.code))


def record_refusal(
    tx: Tx,
    error: FleetwardError,
    *,
    device_id: str | None,
    said_id: str,
    address: str,
    lane: str,
    repeats: int,
) -> None:
    """Tell that an enrollment was refused.

    Args:
        device_id: whom it concerns, when that is a registered device.
        said_id: the name the stranger gave, "" for none.
        repeats: how many equal refusals were held back since the last one told.
    """
    subject = f"device {device_id}" if device_id else "an unknown device"
    emit(
        tx,
        "enrollment.refused",
        f"A certificate for {subject} was refused to {address}: {error.message}",
        device=device_id,
        severity=Severity.WARNING,
        reason=reason_of(error),
        code=error.code,
        lane=lane,
        address=address,
        said_id=said_id[:64],
        repeats=repeats,
    )
