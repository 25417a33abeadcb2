"""Gathers what answers "why?" about one device."""

from fleetward.base.db import Tx
from fleetward.base.events import Event
from fleetward.features.attestation import service as attestation
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, Device, Model
from fleetward.features.messaging import service as messaging
from fleetward.features.messaging.model import Presence
from fleetward.features.overview import store
from fleetward.features.overview.model.firmware import FirmwareStatus, describe_firmware
from fleetward.features.overview.model.situation import Answer, Situation, Told
from fleetward.features.overview.model.why import explain
from fleetward.features.overview.model.why_update import TOLD
from fleetward.features.pki import service as pki
from fleetward.features.updates import service as updates

_REFUSED = ("session.refused", "tls.refused")
_HISTORY = 20


def explain_device(tx: Tx, device_id: str, presence: Presence | None) -> list[Answer]:
    """Return why a device is connected, denied or offline, and what of its updates and video.

    Args:
        presence: as the broker last told, None when it never had a session.

    Raises:
        NotFoundError: no such device.
    """
    device = devices.get_device(tx, device_id)
    model = devices.get_model(tx, device.model)
    return explain(
        Situation(
            now=tx.now,
            device=device,
            model=model,
            gates=messaging.ask_gates(tx, device_id),
            holds=messaging.list_holds(tx, device_id),
            certificates=pki.list_certificates(tx, device_id),
            appraisal=attestation.find_appraisal(tx, device_id),
            presence=presence,
            refused=_last(tx, device_id, _REFUSED),
            firmware=_status(tx, device, model),
            trouble=_last(tx, device_id, TOLD),
        )
    )


def describe_device_firmware(tx: Tx, device_id: str) -> tuple[FirmwareStatus, list[Event]]:
    """Return where a device stands with its firmware, and what it told of its updates, newest first.

    Raises:
        NotFoundError: no such device.
    """
    device = devices.get_device(tx, device_id)
    status = _status(tx, device, devices.get_model(tx, device.model))
    return status, store.list_device_events(tx, device_id, TOLD, limit=_HISTORY)


def _status(tx: Tx, device: Device, model: Model) -> FirmwareStatus:
    return describe_firmware(
        device.firmware_version,
        is_proven=model.attestation is AttestationPolicy.REQUIRED,
        shadow=messaging.get_shadow(tx, device.id),
        releases=updates.list_releases(tx, model=device.model),
    )


def _last(tx: Tx, device_id: str, kinds: tuple[str, ...]) -> Told | None:
    found = store.list_device_events(tx, device_id, kinds, limit=1)
    if not found:
        return None
    event = found[0]
    return Told(event.at, event.kind, event.message, str(event.details.get("reason", "")))
