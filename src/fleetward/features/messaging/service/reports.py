"""What devices say of themselves where no chip proves it. It is the device's word."""

from fleetward.base.db import Tx
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy
from fleetward.features.messaging.model import Shadow

_MAX_VERSION_CHARS = 64


def record_firmware(tx: Tx, shadow: Shadow) -> None:
    """Note the firmware that a device reports, where no chip proves it."""
    firmware = shadow.reported.get("firmware")
    version = firmware.get("version") if isinstance(firmware, dict) else None
    device = devices.find_device(tx, shadow.device)
    if device is None or not isinstance(version, str) or not 0 < len(version) <= _MAX_VERSION_CHARS:
        return
    if devices.get_model(tx, device.model).attestation is AttestationPolicy.NONE:
        devices.set_firmware_version(tx, device.id, version)
