"""Commands to devices: queued in SQL, sent until answered, closed once."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from fleetward.base import journal
from fleetward.base.db import Tx
from fleetward.base.errors import ConflictError, InvalidInputError, NotFoundError
from fleetward.base.events import Severity, emit
from fleetward.features.devices import service as devices
from fleetward.features.messaging import store
from fleetward.features.messaging.model import CommandRecord, CommandState, next_send_at
from fleetward.wire.command import (
    MAX_TIMEOUT_S,
    Command,
    CommandResult,
    parse_command_name,
    render_command,
)

MAX_OPEN_COMMANDS = 100
_BATCH = 500


def queue_command(tx: Tx, device_id: str, name: str, args: dict[str, Any], timeout_s: int) -> CommandRecord:
    """Queue a command; it is sent at once when the device is connected, else when it comes.

    Raises:
        NotFoundError: no such device.
        ConflictError: the device's life has ended, or 100 commands wait for it already.
        InvalidInputError: bad name, arguments over 16 KiB, timeout outside 1 s to 24 h.
    """
    device = devices.get_device(tx, device_id)
    if device.has_ended:
        raise ConflictError(f"device {device_id}: expected a live device, found it {device.state}")
    expires_at = check_command(name, args, timeout_s, tx.now)
    if store.count_open(tx, device_id) >= MAX_OPEN_COMMANDS:
        raise ConflictError(f"device {device_id}: expected fewer than {MAX_OPEN_COMMANDS} waiting commands")
    command = store.insert_command(tx, device_id, name, args, expires_at)
    journal.record(tx, "command.queued", f"device:{device_id}", command=command.id, name=name)
    emit(
        tx, "command.queued", f"Device {device_id} is asked to {name}.", device=device_id,
        command=command.id, name=name,
    )  # fmt: skip
    return command


def check_command(name: str, args: dict[str, Any], timeout_s: int, now: datetime) -> datetime:
    """Return when a command queued now would expire.

    Raises:
        InvalidInputError: bad name, arguments over 16 KiB, timeout outside 1 s to 24 h.
    """
    parse_command_name(name)
    if not 1 <= timeout_s <= MAX_TIMEOUT_S:
        raise InvalidInputError(f"timeout_s: expected 1 to {MAX_TIMEOUT_S}, found {timeout_s}")
    expires_at = now + timedelta(seconds=timeout_s)
    render_command(Command(0, name, args, expires_at))
    return expires_at


def list_full_queues(tx: Tx) -> frozenset[str]:
    """Return the devices for which no further command can be queued now."""
    return frozenset(store.list_full_queues(tx, MAX_OPEN_COMMANDS))


def get_command(tx: Tx, device_id: str, number: int) -> CommandRecord:
    """Return a command. Raises NotFoundError when the device has none of that number."""
    found = store.find_command(tx, device_id, number)
    if found is None:
        raise NotFoundError(f"command {number}: expected one of device {device_id}, found none")
    return found


def list_commands(tx: Tx, device_id: str, *, limit: int = 100) -> list[CommandRecord]:
    """Return the device's last commands, newest first. Raises NotFoundError for an unknown device."""
    devices.get_device(tx, device_id)
    return store.list_commands(tx, device_id, limit=limit)


def find_open_commands(tx: Tx, device_ids: Collection[str]) -> list[CommandRecord]:
    """Return the commands that devices which have just connected are to be sent, oldest first."""
    return [command for command in store.list_open(tx, device_ids) if command.expires_at > tx.now]


def due_commands(tx: Tx) -> list[CommandRecord]:
    """Return commands that stayed without result and are to be sent again."""
    return store.list_due(tx, limit=_BATCH)


def has_expired_commands(tx: Tx) -> bool:
    """Whether `time_out_commands` would close any."""
    return bool(store.list_expired(tx, limit=1))


def mark_sent(tx: Tx, commands: Iterable[CommandRecord]) -> None:
    """Note that these commands were published just now, and when to try again."""
    by_number = {command.id: next_send_at(command.attempts, tx.now) for command in commands}
    store.mark_sent(tx, by_number, send_at=by_number)


def record_results(tx: Tx, results: Sequence[tuple[str, int, CommandResult]]) -> list[tuple[str, int]]:
    """Close commands with what devices answered; a second or late answer changes nothing.

    Return device and number of those it closed. What names no open command costs nothing more.
    """
    waiting = store.find_open_by_number(tx, {number for _, number, _ in results})
    return [
        (device, number)
        for device, number, result in results
        if (command := waiting.get(number)) is not None
        and command.device == device
        and _close(tx, command, result)
    ]


def _close(tx: Tx, command: CommandRecord, result: CommandResult) -> bool:
    state = CommandState.DONE if result.ok else CommandState.FAILED
    if not store.finish_command(tx, command.id, state, result):
        return False
    device_id = command.device
    journal.record(tx, f"command.{state}", f"device:{device_id}", command=command.id, name=command.name)
    emit(
        tx,
        f"command.{state}",
        f"Device {device_id} answered {command.name}: {'done' if result.ok else result.error[:200]}.",
        device=device_id,
        severity=Severity.INFO if result.ok else Severity.NOTICE,
        command=command.id,
        name=command.name,
    )
    return True


def time_out_commands(tx: Tx) -> int:
    """Close commands whose time is over without result; return how many."""
    expired = store.list_expired(tx, limit=_BATCH)
    for command in expired:
        store.finish_command(tx, command.id, CommandState.TIMED_OUT, None)
        journal.record(
            tx, "command.timed_out", f"device:{command.device}", command=command.id, name=command.name
        )
        emit(
            tx,
            "command.timed_out",
            f"Device {command.device} did not answer {command.name} in time.",
            device=command.device,
            severity=Severity.NOTICE,
            command=command.id,
            name=command.name,
        )
    return len(expired)
