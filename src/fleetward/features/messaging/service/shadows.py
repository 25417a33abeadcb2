"""Shadows: what is desired of devices and what they report."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError
from fleetward.base.events import emit
from fleetward.features.devices import service as devices
from fleetward.features.messaging import store
from fleetward.features.messaging.model import Shadow, accepts_reported
from fleetward.wire.shadow import Desired, Reported, render_shadow


def get_shadow(tx: Tx, device_id: str) -> Shadow:
    """Return a device's shadow, an empty one before anything was desired or reported.

    Raises:
        NotFoundError: no such device.
    """
    devices.get_device(tx, device_id)
    return store.find_shadow(tx, device_id) or Shadow(device_id)


def list_waiting_shadows(tx: Tx, device_ids: Collection[str]) -> list[Shadow]:
    """Return the shadows of those of these devices that have not acted on what is desired of them."""
    return store.list_waiting_shadows(tx, device_ids)


def set_desired(
    tx: Tx, device_id: str, state: dict[str, Any], *, expected_version: int | None = None
) -> Shadow:
    """Replace what is desired of a device; it is told at once when connected, else when it comes.

    Args:
        expected_version: the version the caller has read, None to overwrite whatever there is.

    Raises:
        NotFoundError: no such device.
        ConflictError: someone else changed it meanwhile.
        InvalidInputError: over 32 KiB or 8 levels.
    """
    before = get_shadow(tx, device_id)
    if expected_version not in (None, before.desired_version):
        raise ConflictError(
            f"shadow of {device_id}: expected version {expected_version}, found {before.desired_version}",
            version=before.desired_version,
        )
    after = replace(before, desired=state, desired_version=before.desired_version + 1, desired_at=tx.now)
    render_shadow(Desired(after.desired_version, state))
    _write(tx, before, after)
    journal.record(
        tx, "shadow.desired", f"device:{device_id}", version=after.desired_version, keys=sorted(state)
    )
    emit(
        tx, "shadow.desired", f"What is desired of device {device_id} changed.", device=device_id,
        version=after.desired_version,
    )  # fmt: skip
    return after


def record_reported(tx: Tx, device_id: str, reports: Sequence[tuple[Reported, datetime]]) -> Shadow | None:
    """Keep what a device reported, with the times we took it, in order; return its shadow.

    None for an unknown device. An older or repeated report changes nothing; many cost one write. Reports are
    the device's own data: no audit entry.
    """
    if devices.find_device(tx, device_id) is None:
        return None
    before = after = store.find_shadow(tx, device_id) or Shadow(device_id)
    for reported, received_at in reports:
        if accepts_reported(after, reported.version):
            after = replace(
                after,
                reported=reported.state,
                reported_version=reported.version,
                reported_at=received_at,
                acknowledged_version=reported.desired_version,
            )
    if after != before:
        _write(tx, before, after)
    return after


def _write(tx: Tx, before: Shadow, after: Shadow) -> None:
    if before.desired_at is None and before.reported_at is None:
        store.insert_shadow(tx, after)
    elif not store.update_shadow(tx, before, after):
        raise ConflictError(f"shadow of {after.device}: expected it as read, found it changed meanwhile")
