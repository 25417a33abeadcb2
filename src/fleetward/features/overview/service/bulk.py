"""Acting on many devices: shown first, then done, each device by the same rules as alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fleetward.base import journal
from fleetward.base.db import Database, Tx
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import Device, DeviceState, Selection
from fleetward.features.messaging import service as messaging
from fleetward.features.overview.model.bulk import (
    MAX_DEVICES,
    BulkAction,
    Plan,
    Skipped,
    find_obstacle,
)

_AT_ONCE = 100
_PAGE = 1000


@dataclass(frozen=True)
class BulkCommand:
    """The command that BulkAction.COMMAND queues."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: int = 30


@dataclass(frozen=True)
class BulkRequest:
    """What is asked for.

    Attributes:
        target: a selection, or ids; its groups are those the caller may see.
        groups: in which the caller may do `action`, None for all.
    """

    action: BulkAction
    target: Selection | Sequence[str]
    reason: str
    visible: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    command: BulkCommand | None = None


def plan(tx: Tx, request: BulkRequest) -> Plan:
    """Return what `apply` would do now. Changes nothing.

    Raises:
        InvalidInputError: over 10,000 devices, or a command that cannot be queued.
    """
    full: frozenset[str] = frozenset()
    if request.action is BulkAction.COMMAND:
        command = _command_of(request)
        messaging.check_command(command.name, dict(command.args), command.timeout_s, tx.now)
        full = messaging.list_full_queues(tx)
    found, missing = _find_devices(tx, request)
    will_change: list[str] = []
    skipped = [Skipped(one, "no such device") for one in missing]
    for device in found:
        why = find_obstacle(request.action, device, groups=request.groups, has_full_queue=device.id in full)
        if why is None:
            will_change.append(device.id)
        else:
            skipped.append(Skipped(device.id, why))
    return Plan(request.action, tuple(will_change), tuple(skipped))


def apply(db: Database, actor: str, request: BulkRequest, *, expected: int | None = None) -> Plan:
    """Do it, a hundred devices a transaction, and return what was done. Calling again finishes the work.

    Args:
        expected: how many devices the caller was shown; another number stops it before anything changes.

    Raises:
        InvalidInputError: as `plan`.
        ConflictError: not as many devices as expected would change now.
    """
    with db.write(actor) as tx:
        planned = plan(tx, request)
        if expected not in (None, len(planned.will_change)):
            raise ConflictError(
                f"bulk {request.action}: expected {expected} devices to change, found "
                f"{len(planned.will_change)}",
                hint="The fleet has changed since: look at the preview again.",
            )
        journal.record(
            tx, "bulk.begun", f"bulk:{request.action}", devices=len(planned.will_change),
            reason=request.reason, target=_render_target(request.target),
        )  # fmt: skip
    changed: list[str] = []
    skipped = list(planned.skipped)
    for ids in _chunks(planned.will_change, _AT_ONCE):
        with db.write(actor) as tx:
            for device_id in ids:
                try:
                    _act(tx, request, device_id)
                except (ConflictError, NotFoundError) as error:
                    # Somebody else changed it between preview and now; the others go on.
                    skipped.append(Skipped(device_id, error.message))
                else:
                    changed.append(device_id)
    with db.write(actor) as tx:
        journal.record(
            tx, "bulk.finished", f"bulk:{request.action}", changed=len(changed), skipped=len(skipped)
        )
    return Plan(request.action, tuple(changed), tuple(skipped))


def _act(tx: Tx, request: BulkRequest, device_id: str) -> None:
    match request.action:
        case BulkAction.QUARANTINE:
            devices.transition(tx, device_id, DeviceState.QUARANTINED, request.reason)
        case BulkAction.RELEASE:
            devices.release(tx, device_id, request.reason)
        case BulkAction.REVOKE:
            devices.end(tx, device_id, DeviceState.REVOKED, request.reason)
        case BulkAction.RETIRE:
            devices.end(tx, device_id, DeviceState.RETIRED, request.reason)
        case BulkAction.COMMAND:
            command = _command_of(request)
            messaging.queue_command(tx, device_id, command.name, dict(command.args), command.timeout_s)


def _find_devices(tx: Tx, request: BulkRequest) -> tuple[list[Device], list[str]]:
    """Return the devices meant, by id, and the ids among them that do not exist for the caller."""
    if isinstance(request.target, Selection):
        selection = replace(request.target, groups=request.visible)
        count = devices.count_devices(tx, selection).total
        _check_size(count)
        found: list[Device] = []
        while page := devices.list_devices(tx, selection, after=found[-1].id if found else "", limit=_PAGE):
            found += page
        return found, []
    ids = sorted(set(request.target))
    _check_size(len(ids))
    found = devices.list_by_ids(tx, ids, groups=request.visible)
    known = {device.id for device in found}
    return found, [one for one in ids if one not in known]


def _check_size(count: int) -> None:
    if count > MAX_DEVICES:
        raise InvalidInputError(
            f"bulk: expected at most {MAX_DEVICES:,} devices at once, found {count:,}",
            hint="Narrow the filter, e.g. by group or model, and do it in parts.",
        )


def _command_of(request: BulkRequest) -> BulkCommand:
    if request.command is None:
        raise InvalidInputError("bulk command: expected the command to queue, found none")
    return request.command


def _chunks(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _render_target(target: Selection | Sequence[str]) -> dict[str, Any]:
    if not isinstance(target, Selection):
        return {"ids": len(target)}
    names = ("model", "group", "state", "firmware", "search")
    return {name: value for name in names if (value := getattr(target, name)) is not None}
