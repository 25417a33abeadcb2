"""What devices say of themselves that people and other rooms must hear: boot, update, firmware.

It is the device's word, and told as such; what a chip proves is attestation's.
"""

from datetime import timedelta
from typing import Any

from fleetward.base.db import Tx
from fleetward.base.events import Severity, emit, list_events
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy
from fleetward.features.messaging.model import Shadow
from fleetward.wire.telemetry import Reading

# Only these become events: a device cannot speak in the name of another room.
_TOLD = frozenset(
    {
        "update.refused",
        "update.failed",
        "update.confirmed",
        "update.rolled_back",
        "boot.refused",
        "boot.degraded",
    }
)
_SEVERITIES = frozenset(severity.value for severity in Severity)
_MAX_DETAIL_CHARS = 300
_REPEATED_WITHIN = timedelta(minutes=10)
_MAX_VERSION_CHARS = 64


def is_told(reading: Reading) -> bool:
    """Whether a log line is of a kind that becomes an event."""
    return isinstance(reading.value, dict) and reading.value.get("event") in _TOLD


def record_told(tx: Tx, device_id: str, reading: Reading) -> None:
    """Make an event of a log line; the same line again, within ten minutes, changes nothing."""
    said: dict[str, Any] = reading.value
    if devices.find_device(tx, device_id) is None or (reading.id and _is_known(tx, device_id, reading.id)):
        return
    severity = said.get("severity")
    details = {
        str(name)[:40]: value if isinstance(value, int | float | bool) else str(value)[:_MAX_DETAIL_CHARS]
        for name, value in list(said.items())[:20]
        if name not in ("event", "level", "severity", "message", "device", "kind")
    }
    emit(
        tx,
        said["event"],
        f"Device {device_id} says: {str(said.get('message', said['event']))[:_MAX_DETAIL_CHARS]}",
        device=device_id,
        severity=Severity(severity) if severity in _SEVERITIES else Severity.WARNING,
        said=details,
        reading=reading.id,
    )


def record_firmware(tx: Tx, shadow: Shadow) -> None:
    """Note the firmware that a device reports, where no chip proves it."""
    firmware = shadow.reported.get("firmware")
    version = firmware.get("version") if isinstance(firmware, dict) else None
    device = devices.find_device(tx, shadow.device)
    if device is None or not isinstance(version, str) or not 0 < len(version) <= _MAX_VERSION_CHARS:
        return
    if devices.get_model(tx, device.model).attestation is AttestationPolicy.NONE:
        devices.set_firmware_version(tx, device.id, version)


def _is_known(tx: Tx, device_id: str, reading_id: str) -> bool:
    recent = list_events(tx, device=device_id, since=tx.now - _REPEATED_WITHIN)
    return any(event.details.get("reading") == reading_id for event in recent)
