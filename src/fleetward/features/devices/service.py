"""Use cases of the registry. Every change is audited and told as an event."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from fleetward.base import journal
from fleetward.base.db import IdQuery, Tx
from fleetward.base.errors import ConflictError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.base.ids import parse_device_id, parse_id, render_duration
from fleetward.features.devices import store
from fleetward.features.devices.model import (
    Counts,
    Device,
    DeviceState,
    HardwareIdentity,
    KeyTier,
    LifecycleError,
    Model,
    Order,
    Selection,
    Standing,
    check_model,
    check_tier,
    check_transition,
    state_after_enrollment,
)
from fleetward.features.pki import service as pki
from fleetward.features.pki.model import RevocationReason

MAX_REASON_CHARS = 200
_ALL = Selection()
_BY_ID = Order()
_SEVERITY_OF = {
    DeviceState.QUARANTINED: Severity.WARNING,
    DeviceState.REVOKED: Severity.WARNING,
    DeviceState.RETIRED: Severity.NOTICE,
}
_WHY = {
    DeviceState.REVOKED: RevocationReason.KEY_COMPROMISE,
    DeviceState.RETIRED: RevocationReason.CESSATION_OF_OPERATION,
}


def add_model(tx: Tx, model: Model) -> Model:
    """Record a product.

    Raises:
        InvalidInputError: bad id or lifetime.
        ConflictError: the id is taken by a model with other rules.
    """
    check_model(model)
    parse_id(model.id, what="model")
    existing = store.find_model(tx, model.id)
    if existing == model:
        return existing
    if existing is not None:
        raise ConflictError(f"model {model.id}: expected a new id, found one with other rules")
    store.insert_model(tx, model)
    journal.record(
        tx,
        "model.added",
        f"model:{model.id}",
        attestation=model.attestation.value,
        min_tier=model.min_tier.value,
        cert_lifetime=render_duration(model.cert_lifetime),
        appraisal_lifetime=render_duration(model.appraisal_lifetime),
    )
    return model


def get_model(tx: Tx, model_id: str) -> Model:
    """Return a model. Raises NotFoundError when there is none."""
    found = store.find_model(tx, model_id)
    if found is None:
        raise NotFoundError(
            f"model {model_id}: expected a registered model, found none",
            hint=f"Add it: fleetward model add {model_id}",
        )
    return found


def list_models(tx: Tx) -> list[Model]:
    return store.list_models(tx)


def register(
    tx: Tx,
    device_id: str,
    model_id: str,
    *,
    group: str = "default",
    hardware: HardwareIdentity | None = None,
) -> Device:
    """Record a device that has no certificate yet.

    Raises:
        InvalidInputError: bad id.
        NotFoundError: no such model.
        ConflictError: the id or the chip is registered already.
    """
    parse_device_id(device_id)
    parse_id(group, what="group")
    get_model(tx, model_id)
    if store.find_device(tx, device_id) is not None:
        raise ConflictError(f"device {device_id}: expected a new id, found it registered")
    _check_hardware_is_free(tx, device_id, hardware)
    device = _new_device(tx, device_id, model_id, group, hardware)
    store.insert_devices(tx, [device])
    journal.record(
        tx,
        "device.registered",
        f"device:{device_id}",
        model=model_id,
        group=group,
        hardware=hardware and hardware.fingerprint,
    )
    emit(tx, "device.registered", f"Device {device_id} was registered.", device=device_id, model=model_id)
    return device


def register_shipment(
    tx: Tx, rows: Sequence[tuple[str, str, str, HardwareIdentity]], *, batch: str, factory: str
) -> int:
    """Record the devices of a verified shipment at once: (id, model, group, chip). One audit entry.

    Raises:
        ConflictError: an id or chip is registered already; nothing is recorded.
    """
    ids = {device_id for device_id, _, _, _ in rows}
    chips = {hardware.fingerprint: device_id for device_id, _, _, hardware in rows}
    for taken in store.list_taken(tx, list(ids), list(chips)):
        if taken.id in ids:
            raise ConflictError(f"device {taken.id}: expected a new id, found it registered")
        if taken.hardware is not None:
            _check_hardware_is_free(tx, chips[taken.hardware.fingerprint], taken.hardware)
    store.insert_devices(tx, [_new_device(tx, *row) for row in rows])
    journal.record(
        tx, "shipment.imported", f"factory:{factory}", batch=batch, devices=len(rows),
        first=rows[0][0] if rows else None, last=rows[-1][0] if rows else None,
    )  # fmt: skip
    emit(tx, "shipment.imported", f"{len(rows)} devices were registered from {factory}.", batch=batch)
    return len(rows)


def get_device(tx: Tx, device_id: str) -> Device:
    """Return a device. Raises NotFoundError when there is none."""
    found = store.find_device(tx, device_id)
    if found is None:
        raise not_found(device_id)
    return found


def not_found(device_id: str) -> NotFoundError:
    """Return the error for a device that is not there, or not for the caller to see: the two read alike."""
    return NotFoundError(f"device {device_id}: expected a registered device, found none")


def find_group(tx: Tx, device_id: str) -> str | None:
    """Return the group of a device, None when there is no such device."""
    return store.find_group(tx, device_id)


def find_device(tx: Tx, device_id: str) -> Device | None:
    return store.find_device(tx, device_id)


def find_by_hardware(tx: Tx, fingerprint: str) -> Device | None:
    """Return the device whose chip has this SPKI SHA-256 (hex), or None."""
    return store.find_by_hardware(tx, fingerprint)


def list_devices(
    tx: Tx,
    selection: Selection = _ALL,
    *,
    order: Order = _BY_ID,
    after: str = "",
    at: int = 0,
    limit: int = 500,
) -> list[Device]:
    """Return up to `limit` devices in order.

    Args:
        after: `render_cursor` of the last device of the page before; stays right while devices come and go.
        at: the row number to begin with, counted from 0 behind `after`; for a list one may jump about in.

    Raises:
        InvalidInputError: `after` is of another order.
    """
    return store.list_devices(tx, selection, order=order, after=after, at=at, limit=limit)


def list_by_ids(tx: Tx, ids: Sequence[str], *, groups: frozenset[str] | None = None) -> list[Device]:
    """Return those of `ids` that are registered in these groups (None: in any), by id."""
    return store.list_by_ids(tx, ids, groups)


def list_standings(
    tx: Tx, *, ids: Collection[str] | None = None, after: str = "", limit: int = 1000
) -> list[Standing]:
    """Return where up to `limit` devices stand, by id, those after `after`; with `ids`, of these only."""
    return store.list_standings(tx, ids=ids, after=after, limit=limit)


def count_devices(tx: Tx, selection: Selection = _ALL) -> Counts:
    """Return how many devices are selected, by state, model, firmware and group."""
    by: tuple[Counter[str], ...] = (Counter(), Counter(), Counter(), Counter())
    for values, count in store.count_devices(tx, selection):
        for counter, value in zip(by, values, strict=True):
            counter[value] += count
    states, models, firmware, groups = (dict(sorted(one.items())) for one in by)
    return Counts(sum(states.values()), states, models, firmware, groups)


def select_ids(
    *,
    groups: frozenset[str] | None = None,
    states: Collection[DeviceState] | None = None,
    model: str | None = None,
) -> IdQuery:
    """Return a query of device ids for the stores of other rooms to nest in their own."""
    return store.select_ids(Selection(model=model, groups=groups), states)


def transition(tx: Tx, device_id: str, to: DeviceState, reason: str) -> Device:
    """Move a device to another state of its life; asking for the state it is in changes nothing.

    Raises:
        NotFoundError: no such device.
        LifecycleError: its state has no such step.
        ConflictError: someone else moved it meanwhile.
    """
    device = get_device(tx, device_id)
    if device.state is to:
        return device
    check_transition(device, to)
    text = reason[:MAX_REASON_CHARS]
    if not store.update_state(tx, device, to, text):
        raise ConflictError(f"device {device_id}: expected it {device.state} as read, found it changed")
    journal.record(
        tx, f"device.{to.value}", f"device:{device_id}", **{"from": device.state.value, "reason": text}
    )
    emit(
        tx,
        "device.state_changed",
        f"Device {device_id} went from {device.state} to {to}: {text}",
        device=device_id,
        severity=_SEVERITY_OF.get(to, Severity.INFO),
        **{"from": device.state.value, "to": to.value, "reason": text},
    )
    return replace(device, state=to, state_changed_at=tx.now, state_reason=text)


def release(tx: Tx, device_id: str, reason: str) -> Device:
    """Let a quarantined device work again.

    Raises:
        LifecycleError: it is not quarantined.
    """
    device = get_device(tx, device_id)
    if device.state is not DeviceState.QUARANTINED:
        raise LifecycleError(
            f"device {device_id}: expected it quarantined, found it {device.state}", state=device.state.value
        )
    return transition(tx, device_id, DeviceState.ACTIVE, reason)


def end(tx: Tx, device_id: str, to: DeviceState, reason: str) -> Device:
    """Revoke or retire a device: its life moves on and every live certificate of it is revoked with it.

    Relying parties are told `keyCompromise` of a revoked one: whoever is cut off is trusted no longer.
    """
    device = transition(tx, device_id, to, reason)
    pki.revoke_device(tx, device_id, reason, why=_WHY[to])
    return device


def record_enrollment(tx: Tx, device_id: str, tier: KeyTier) -> Device:
    """Record that a certificate was issued for a key proven to live in `tier`.

    Raises:
        KeyTierError: under the model's floor, or lower than before.
        LifecycleError: the device's life has ended.
    """
    device = get_device(tx, device_id)
    model = get_model(tx, device.model)
    if device.has_ended:
        check_transition(device, DeviceState.ENROLLED)
    check_tier(device_id, model, device.tier, tier)
    if device.tier is not tier:
        store.update_device(tx, device_id, tier=tier.value)
        if device.tier is not None:
            journal.record(
                tx, "device.tier_changed", f"device:{device_id}", before=device.tier.value, after=tier.value
            )
    to = state_after_enrollment(device, model)
    if device.state is DeviceState.REGISTERED:
        device = transition(tx, device_id, DeviceState.ENROLLED, "certificate issued")
        if to is DeviceState.ACTIVE:
            device = transition(tx, device_id, to, "its model asks for no attestation")
    return replace(device, tier=tier)


def record_good_appraisal(tx: Tx, device_id: str) -> Device:
    """Make an enrolled device active; one that is quarantined stays so until an operator releases it."""
    device = get_device(tx, device_id)
    if device.state is DeviceState.ENROLLED:
        return transition(tx, device_id, DeviceState.ACTIVE, "attestation was good")
    return device


def bind_hardware(tx: Tx, device_id: str, hardware: HardwareIdentity) -> Device:
    """Tie a device that was added by claim to the chip it enrolled with.

    Raises:
        ConflictError: it is tied to another chip, or the chip to another device.
    """
    device = get_device(tx, device_id)
    if device.hardware == hardware:
        return device
    if device.hardware is not None:
        raise ConflictError(f"device {device_id}: expected its own chip, found another")
    _check_hardware_is_free(tx, device_id, hardware)
    store.update_device(
        tx, device_id, hardware_kind=hardware.kind.value, hardware_fingerprint=hardware.fingerprint
    )
    journal.record(
        tx, "device.hardware_bound", f"device:{device_id}", kind=hardware.kind.value,
        fingerprint=hardware.fingerprint,
    )  # fmt: skip
    return replace(device, hardware=hardware)


def set_firmware_version(tx: Tx, device_id: str, version: str) -> None:
    """Record the firmware a device reports; a change is told as an event."""
    device = get_device(tx, device_id)
    if device.firmware_version == version:
        return
    store.update_device(tx, device_id, firmware_version=version)
    journal.record(
        tx,
        "device.firmware_changed",
        f"device:{device_id}",
        **{"from": device.firmware_version, "to": version},
    )
    emit(
        tx,
        "device.firmware_changed",
        f"Device {device_id} runs firmware {version}, before {device.firmware_version or 'unknown'}.",
        device=device_id,
        severity=Severity.NOTICE,
        **{"from": device.firmware_version, "to": version},
    )


def _check_hardware_is_free(tx: Tx, device_id: str, hardware: HardwareIdentity | None) -> None:
    if hardware is None:
        return
    owner = store.find_by_hardware(tx, hardware.fingerprint)
    if owner is not None:
        raise ConflictError(
            f"device {device_id}: expected a chip of its own, found {hardware.kind} "
            f"{hardware.fingerprint[:16]}… registered as {owner.id}"
        )


def _new_device(
    tx: Tx, device_id: str, model_id: str, group: str, hardware: HardwareIdentity | None
) -> Device:
    return Device(
        id=device_id,
        model=model_id,
        group=group,
        state=DeviceState.REGISTERED,
        tier=None,
        hardware=hardware,
        firmware_version=None,
        created_at=tx.now,
        state_changed_at=tx.now,
        state_reason="registered",
    )
