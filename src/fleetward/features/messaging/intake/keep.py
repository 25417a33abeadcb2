"""The stage that writes states: shadows and results, in transactions of a few rows each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fleetward.base.db import Database, Tx
from fleetward.features.messaging import service
from fleetward.features.messaging.intake.batch import Batch, DeviceMessage, Item
from fleetward.features.messaging.intake.tell import parse_told, tell
from fleetward.features.messaging.model import Shadow
from fleetward.features.messaging.service.reports import record_firmware
from fleetward.wire.command import CommandResult
from fleetward.wire.shadow import Reported
from fleetward.wire.telemetry import Reading

ACTOR = "system:messaging"
# Nobody waits long for one of these: a result costs about eight statements, a report seven, a told line one.
RESULTS_A_TRANSACTION = 15
REPORTS_A_TRANSACTION = 15
TOLD_A_TRANSACTION = 50
_T = TypeVar("_T")


@dataclass(frozen=True)
class TakenReading:
    """A reading to be kept."""

    message: DeviceMessage
    reading: Reading


@dataclass(frozen=True)
class TakenIn:
    """What a batch of messages came to.

    Attributes:
        shadows: of devices that reported; what is desired and waits is theirs to get now.
        refused: what was not accepted.
    """

    readings: list[TakenReading]
    shadows: list[Shadow]
    answered: list[tuple[str, int]]


def keep(db: Database, batch: Batch) -> TakenIn:
    """Write what changes states and what is told, and return the readings, which go elsewhere."""
    readings: list[TakenReading] = []
    reports: dict[str, list[tuple[DeviceMessage, Reported]]] = {}
    results: list[tuple[DeviceMessage, CommandResult]] = []
    for item in batch.items:
        match item.value:
            case Reported():
                reports.setdefault(item.device, []).append((item.message, item.value))
            case CommandResult():
                results.append((item.message, item.value))
            case Reading():
                readings.append(TakenReading(item.message, item.value))
    shadows: list[Shadow] = []
    answered: list[tuple[str, int]] = []
    _in_chunks(
        db, list(reports.items()), REPORTS_A_TRANSACTION, lambda tx, some: shadows.extend(_report(tx, some))
    )
    _in_chunks(db, results, RESULTS_A_TRANSACTION, lambda tx, some: answered.extend(_close(tx, some)))
    told: list[Item] = [item for item in batch.items if item.is_told]
    _in_chunks(db, told, TOLD_A_TRANSACTION, lambda tx, some: tell(tx, [parse_told(one) for one in some]))
    return TakenIn(readings, shadows, answered)


def _in_chunks(db: Database, rows: Sequence[_T], size: int, act: Callable[[Tx, Sequence[_T]], None]) -> None:
    for start in range(0, len(rows), size):
        with db.write(ACTOR) as tx:
            act(tx, rows[start : start + size])


def _report(tx: Tx, reports: Sequence[tuple[str, list[tuple[DeviceMessage, Reported]]]]) -> list[Shadow]:
    found: list[Shadow] = []
    for device, reported in reports:
        in_order = [(one, message.received_at) for message, one in reported]
        shadow = service.record_reported(tx, device, in_order)
        if shadow is not None:
            found.append(shadow)
            record_firmware(tx, shadow)
    return found


def _close(tx: Tx, results: Sequence[tuple[DeviceMessage, CommandResult]]) -> list[tuple[str, int]]:
    named = [(message.topic.device, int(message.topic.name), result) for message, result in results]
    return service.record_results(tx, named)
