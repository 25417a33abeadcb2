"""The last stage: what devices say of themselves that people and other rooms must hear: boot, update.

It is the device's word, and told as such; what a chip proves is attestation's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fleetward.base.db import Tx
from fleetward.base.events import Severity, emit
from fleetward.features.devices import service as devices
from fleetward.features.messaging import store
from fleetward.features.messaging.intake.batch import Item, repeat_key
from fleetward.wire.telemetry import Reading

# Only these become events: a device cannot speak in the name of another room.
TOLD_KINDS = frozenset(
    {
        "update.refused",
        "update.failed",
        "update.confirmed",
        "update.rolled_back",
        "boot.refused",
        "boot.degraded",
        "agent.ability_failed",
    }
)
_SEVERITIES = {severity.value: severity for severity in Severity}
_NOT_DETAILS = frozenset({"event", "level", "severity", "message", "device", "kind"})
_MAX_DETAIL_CHARS = 300
_MAX_NAME_CHARS = 40
_MAX_DETAILS = 20


@dataclass(frozen=True, slots=True)
class Told:
    """A log line as the event it becomes.

    Attributes:
        key: what a repeat is known by; "" where it cannot be known.
        reading: the device's own id of the line.
    """

    device: str
    kind: str
    severity: Severity
    message: str
    details: dict[str, Any]
    key: str
    reading: str


def is_told(reading: Reading) -> bool:
    """Whether a log line is of a kind that becomes an event."""
    return isinstance(reading.value, dict) and _text_of(reading.value, "event") in TOLD_KINDS


def parse_told(item: Item) -> Told:
    """Return the event that a log line becomes; whatever it holds, for `is_told` has looked at it."""
    reading: Any = item.value
    said: dict[str, Any] = reading.value
    device, kind = item.device, _text_of(said, "event")
    details = {
        name[:_MAX_NAME_CHARS]: value if isinstance(value, int | float) else str(value)[:_MAX_DETAIL_CHARS]
        for name, value in list(said.items())[:_MAX_DETAILS]
        if name not in _NOT_DETAILS
    }
    return Told(
        device,
        kind,
        _SEVERITIES.get(_text_of(said, "severity"), Severity.WARNING),
        f"Device {device} says: {str(said.get('message', kind))[:_MAX_DETAIL_CHARS]}",
        details,
        repeat_key(item.message, reading) or "",
        reading.id,
    )


def tell(tx: Tx, told: Sequence[Told]) -> None:
    """Make events of log lines of known devices; a line that was told before changes nothing."""
    known = {device.id for device in devices.list_by_ids(tx, sorted({one.device for one in told}))}
    mine = [one for one in told if one.device in known]
    keyed = {(one.device, one.key): one for one in mine if one.key}
    new = store.insert_told(tx, sorted(keyed))
    for one in [keyed[each] for each in keyed if each in new] + [one for one in mine if not one.key]:
        emit(
            tx,
            one.kind,
            one.message,
            device=one.device,
            severity=one.severity,
            said=one.details,
            reading=one.reading,
        )


def _text_of(said: dict[str, Any], name: str) -> str:
    """Return a text among what was said, "" where something else stands there."""
    found = said.get(name)
    return found if isinstance(found, str) else ""
