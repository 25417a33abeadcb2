"""Messaging's SQL: shadows and commands."""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fleetward.base.db import IdQuery, RowId, Timestamp, Tx, is_among, metadata
from fleetward.base.events import events_table
from fleetward.features.messaging.model import (
    OPEN_STATES,
    CommandRecord,
    CommandState,
    Hold,
    Shadow,
)
from fleetward.wire.command import CommandResult

shadows = sa.Table(
    "shadows",
    metadata,
    sa.Column("device", sa.String(64), sa.ForeignKey("devices.id"), primary_key=True),
    sa.Column("desired", sa.Text, nullable=False),
    sa.Column("desired_version", sa.BigInteger, nullable=False),
    sa.Column("desired_at", Timestamp, nullable=True),
    sa.Column("reported", sa.Text, nullable=False),
    sa.Column("reported_version", sa.BigInteger, nullable=False),
    sa.Column("reported_at", Timestamp, nullable=True),
    sa.Column("acknowledged_version", sa.BigInteger, nullable=False),
)
commands = sa.Table(
    "commands",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=True),
    sa.Column("device", sa.String(64), sa.ForeignKey("devices.id"), nullable=False),
    sa.Column("name", sa.String(32), nullable=False),
    sa.Column("args", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Column("send_at", Timestamp, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("finished_at", Timestamp, nullable=True),
    sa.Column("result", sa.Text, nullable=True),
    sa.Index("ix_commands_device", "device", "id"),
    sa.Index("ix_commands_state", "state", "send_at"),
)
holds = sa.Table(
    "holds",
    metadata,
    sa.Column("device", sa.String(64), sa.ForeignKey("devices.id"), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("reason", sa.String(200), nullable=False),
    sa.Column("since", Timestamp, nullable=False),
    sa.Index("ix_holds_name_device", "name", "device"),
)
_HOLDS = (
    holds.select()
    .where(holds.c.device.in_(sa.bindparam("of", expanding=True)))
    .order_by(holds.c.device, holds.c.name)
)
# Log lines that became events, so that a repeat does not become a second one.
told = sa.Table(
    "told_lines",
    metadata,
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("at", Timestamp, nullable=False, index=True),
)
_OPEN = tuple(state.value for state in OPEN_STATES)
_OPEN_OF = (
    commands.select()
    .where(commands.c.device.in_(sa.bindparam("of", expanding=True)), commands.c.state.in_(_OPEN))
    .order_by(commands.c.id)
)
_WAITING_SHADOWS = (
    shadows.select()
    .where(
        shadows.c.device.in_(sa.bindparam("of", expanding=True)),
        shadows.c.acknowledged_version < shadows.c.desired_version,
    )
    .order_by(shadows.c.device)
)
_LAST_EVENT_ID = sa.select(sa.func.coalesce(sa.func.max(events_table.c.id), 0))


def last_event_id(tx: Tx) -> int:
    """Return the number of the newest event: it grows with every change of the registry."""
    return int(tx.conn.execute(_LAST_EVENT_ID).scalar_one())


def list_holds(tx: Tx, devices: Collection[str]) -> dict[str, tuple[Hold, ...]]:
    """Return the holds of those of these devices that are held, by name."""
    found: dict[str, tuple[Hold, ...]] = {}
    for row in tx.conn.execute(_HOLDS, {"of": list(devices)}):
        found[row.device] = (*found.get(row.device, ()), Hold(row.name, row.reason, row.since))
    return found


def list_held(tx: Tx, name: str, *, after: str, limit: int) -> list[str]:
    query = sa.select(holds.c.device).where(holds.c.name == name, holds.c.device > after)
    return list(tx.conn.execute(query.order_by(holds.c.device).limit(limit)).scalars())


def list_held_since(tx: Tx, name: str, *, before: datetime, limit: int) -> list[str]:
    """Return devices held under a name since before a time, the longest held first."""
    query = sa.select(holds.c.device).where(holds.c.name == name, holds.c.since <= before)
    return list(tx.conn.execute(query.order_by(holds.c.since).limit(limit)).scalars())


def list_newest_holds(tx: Tx, among: IdQuery, *, limit: int) -> tuple[int, list[tuple[str, Hold]]]:
    """Return how many devices of `among` are held, and the newest holds."""
    where = is_among(holds.c.device, among)
    count = tx.conn.execute(sa.select(sa.func.count(holds.c.device.distinct())).where(where)).scalar_one()
    newest = holds.select().where(where).order_by(holds.c.since.desc(), holds.c.device).limit(limit)
    return count, [(row.device, Hold(row.name, row.reason, row.since)) for row in tx.conn.execute(newest)]


def put_hold(tx: Tx, device: str, hold: Hold, *, is_new: bool) -> None:
    if is_new:
        values = {"device": device, "name": hold.name, "reason": hold.reason, "since": hold.since}
        tx.conn.execute(holds.insert().values(values))
    else:
        which = holds.update().where(holds.c.device == device, holds.c.name == hold.name)
        tx.conn.execute(which.values(reason=hold.reason))


def delete_hold(tx: Tx, device: str, name: str) -> bool:
    result = tx.conn.execute(holds.delete().where(holds.c.device == device, holds.c.name == name))
    return result.rowcount == 1


def find_shadow(tx: Tx, device: str) -> Shadow | None:
    row = tx.conn.execute(shadows.select().where(shadows.c.device == device)).one_or_none()
    return None if row is None else _as_shadow(row)


def list_waiting_shadows(tx: Tx, devices: Collection[str]) -> list[Shadow]:
    """Return the shadows of those of these devices that have not acted on what is desired, by device."""
    return [_as_shadow(row) for row in tx.conn.execute(_WAITING_SHADOWS, {"of": list(devices)})]


def insert_shadow(tx: Tx, shadow: Shadow) -> None:
    tx.conn.execute(shadows.insert().values(device=shadow.device, **_shadow_values(shadow)))


def update_shadow(tx: Tx, before: Shadow, after: Shadow) -> bool:
    """Write a shadow when both its versions are still those that were read; return whether it was."""
    result = tx.conn.execute(
        shadows.update()
        .where(
            shadows.c.device == before.device,
            shadows.c.desired_version == before.desired_version,
            shadows.c.reported_version == before.reported_version,
        )
        .values(**_shadow_values(after))
    )
    return result.rowcount == 1


def insert_command(
    tx: Tx, device: str, name: str, args: dict[str, Any], expires_at: datetime
) -> CommandRecord:
    result = tx.conn.execute(
        commands.insert().values(
            device=device,
            name=name,
            args=_dump(args),
            state=CommandState.QUEUED.value,
            actor=tx.actor,
            created_at=tx.now,
            expires_at=expires_at,
            send_at=tx.now,
            attempts=0,
        )
    )
    number: int = result.inserted_primary_key[0]  # type: ignore[index] # an insert of one row has one
    return CommandRecord(
        number, device, name, args, CommandState.QUEUED, tx.actor, tx.now, expires_at, 0, None, None
    )


def find_command(tx: Tx, device: str, number: int) -> CommandRecord | None:
    query = commands.select().where(commands.c.id == number, commands.c.device == device)
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else _as_command(row)


def find_open_by_number(tx: Tx, numbers: Collection[int]) -> dict[int, CommandRecord]:
    """Return those of these commands that have no result."""
    query = commands.select().where(commands.c.id.in_(numbers), commands.c.state.in_(_OPEN))
    return {row.id: _as_command(row) for row in tx.conn.execute(query)}


def list_commands(tx: Tx, device: str, *, limit: int) -> list[CommandRecord]:
    query = commands.select().where(commands.c.device == device).order_by(commands.c.id.desc()).limit(limit)
    return [_as_command(row) for row in tx.conn.execute(query)]


def count_open(tx: Tx, device: str) -> int:
    query = sa.select(sa.func.count()).where(commands.c.device == device, commands.c.state.in_(_OPEN))
    return tx.conn.execute(query).scalar_one()


def list_full_queues(tx: Tx, full: int) -> list[str]:
    """Return the devices with `full` commands without result, or more."""
    query = (
        sa.select(commands.c.device)
        .where(commands.c.state.in_(_OPEN))
        .group_by(commands.c.device)
        .having(sa.func.count() >= full)
    )
    return list(tx.conn.execute(query).scalars())


def list_open(tx: Tx, devices: Collection[str]) -> list[CommandRecord]:
    """Return these devices' commands without result, oldest first."""
    return [_as_command(row) for row in tx.conn.execute(_OPEN_OF, {"of": list(devices)})]


def list_due(tx: Tx, *, limit: int) -> list[CommandRecord]:
    """Return commands that are to be sent again, the longest due first."""
    query = (
        commands.select()
        .where(commands.c.state.in_(_OPEN), commands.c.send_at <= tx.now, commands.c.expires_at > tx.now)
        .order_by(commands.c.send_at)
        .limit(limit)
    )
    return [_as_command(row) for row in tx.conn.execute(query)]


def list_expired(tx: Tx, *, limit: int) -> list[CommandRecord]:
    """Return commands without result whose time is over."""
    query = (
        commands.select()
        .where(commands.c.state.in_(_OPEN), commands.c.expires_at <= tx.now)
        .order_by(commands.c.id)
        .limit(limit)
    )
    return [_as_command(row) for row in tx.conn.execute(query)]


def mark_sent(tx: Tx, numbers: Iterable[int], *, send_at: dict[int, datetime]) -> None:
    for number in numbers:
        tx.conn.execute(
            commands.update()
            .where(commands.c.id == number, commands.c.state.in_(_OPEN))
            .values(state=CommandState.SENT.value, attempts=commands.c.attempts + 1, send_at=send_at[number])
        )


def finish_command(tx: Tx, number: int, state: CommandState, result: CommandResult | None) -> bool:
    """Close a command that is open still; return whether it was."""
    text = None if result is None else msgspec.json.encode(result).decode()
    done = tx.conn.execute(
        commands.update()
        .where(commands.c.id == number, commands.c.state.in_(_OPEN))
        .values(state=state.value, finished_at=tx.now, result=text)
    )
    return done.rowcount == 1


def insert_told(tx: Tx, lines: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Remember that lines were told, each by its device and key; return those that were not told before."""
    if not lines:
        return set()
    insert = sqlite.insert if tx.conn.dialect.name == "sqlite" else postgresql.insert
    statement = (
        insert(told)
        .values([{"device": device, "key": key, "at": tx.now} for device, key in lines])
        .on_conflict_do_nothing()
        .returning(told.c.device, told.c.key)
    )
    return {(row.device, row.key) for row in tx.conn.execute(statement)}


def delete_told(tx: Tx, before: datetime) -> int:
    """Forget lines told before a time."""
    return tx.conn.execute(told.delete().where(told.c.at < before)).rowcount


def _shadow_values(shadow: Shadow) -> dict[str, Any]:
    return {
        "desired": _dump(shadow.desired),
        "desired_version": shadow.desired_version,
        "desired_at": shadow.desired_at,
        "reported": _dump(shadow.reported),
        "reported_version": shadow.reported_version,
        "reported_at": shadow.reported_at,
        "acknowledged_version": shadow.acknowledged_version,
    }


def _as_shadow(row: sa.Row[Any]) -> Shadow:
    return Shadow(
        device=row.device,
        desired=json.loads(row.desired),
        desired_version=row.desired_version,
        desired_at=row.desired_at,
        reported=json.loads(row.reported),
        reported_version=row.reported_version,
        reported_at=row.reported_at,
        acknowledged_version=row.acknowledged_version,
    )


def _as_command(row: sa.Row[Any]) -> CommandRecord:
    return CommandRecord(
        id=row.id,
        device=row.device,
        name=row.name,
        args=json.loads(row.args),
        state=CommandState(row.state),
        actor=row.actor,
        created_at=row.created_at,
        expires_at=row.expires_at,
        attempts=row.attempts,
        finished_at=row.finished_at,
        result=None if row.result is None else msgspec.json.decode(row.result, type=CommandResult),
    )


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
