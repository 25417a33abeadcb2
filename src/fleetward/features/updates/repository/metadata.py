"""Writing a model's TUF metadata so that neither a crash nor another process leaves it torn.

Two transactions. The first gives out a version number that is never used again, whatever happens. The second
holds the model's row, makes the change, renders metadata of exactly that state, stores it with the timestamp
last, and commits. A crash in between leaves either files that nothing names, or a timestamp that is ahead of
the row; the next write has a higher number and mends both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Timestamp

from fleetward.base import journal
from fleetward.base.db import Database, Tx
from fleetward.base.errors import TooLargeError, UnavailableError
from fleetward.base.logging import get_logger
from fleetward.features.updates import store
from fleetward.features.updates.context import UpdatesContext
from fleetward.features.updates.model import RepositoryState, due_roles
from fleetward.features.updates.ports import BlobMissingError
from fleetward.features.updates.repository.keys import find_latest_root
from fleetward.features.updates.repository.rendering import MAX_METADATA_BYTES, ROLES, render_metadata
from fleetward.wire.update_paths import metadata_blob

log = get_logger("updates")

_MAX_TRIES = 8
_MAX_TIMESTAMP_BYTES = 16_384
_ROOT_WARNING = timedelta(days=90)


@dataclass(frozen=True)
class Change:
    """What to write.

    Attributes:
        roles: which to sign anew.
        record: makes the change to the rows, in the transaction whose outcome is published.
    """

    model: str
    roles: tuple[str, ...]
    record: Callable[[Tx], None] = lambda _tx: None


def write_metadata(db: Database, context: UpdatesContext, actor: str, change: Change) -> None:
    """Publish metadata of the rows as `change` leaves them.

    Raises:
        UnavailableError: the blob store fails, or others keep writing; nothing was recorded, call again.
        TooLargeError: the model has more releases than a device's client reads.
    """
    for _ in range(_MAX_TRIES):
        with db.write(actor) as tx:
            store.lock_model(tx, change.model)
            store.ensure_repository(tx, change.model)
            version = store.reserve_version(tx, change.model)
        with db.write(actor) as tx:
            state = store.find_repository(tx, change.model, is_locking=True)
            if state is not None and state.reserved == version:
                change.record(tx)
                _publish(tx, context, state, change.roles, version)
                return
    raise UnavailableError(
        f"update metadata of {change.model}: expected to be alone, found others writing it again and again"
    )


def refresh_due(db: Database, context: UpdatesContext) -> int:
    """Sign anew what is past half of its life; return for how many models. Run it every few minutes."""
    with db.read() as tx:
        states = [store.find_repository(tx, model) for model in store.list_repositories(tx)]
        now = tx.now
    due = {one.model: due_roles(one, context.keys.root, now) for one in states if one is not None}
    wanted = {model: roles for model, roles in due.items() if roles}
    for model, roles in wanted.items():
        write_metadata(db, context, "system:updates", Change(model, roles))
    if wanted:
        _warn_of_root(db, context)
    return len(wanted)


def repair(db: Database, context: UpdatesContext) -> int:
    """Sign everything anew where the stored timestamp is not the recorded one; return for how many models.

    For the start of a process: a store restored from a backup, or a crash, may have left the two apart.
    """
    with db.read() as tx:
        found = [store.find_repository(tx, model) for model in store.list_repositories(tx)]
    states = [state for state in found if state is not None and state.roles]
    broken = [state for state in states if not _is_as_recorded(context, state)]
    for state in broken:
        log.warning("update_metadata_repaired", model=state.model)
        write_metadata(db, context, "system:updates", Change(state.model, ROLES))
    return len(broken)


def _publish(
    tx: Tx, context: UpdatesContext, state: RepositoryState, roles: tuple[str, ...], version: int
) -> None:
    files, after = render_metadata(
        context.keys,
        state,
        store.list_releases(tx, model=state.model),
        roles=roles if state.roles else ROLES,
        version=version,
        now=tx.now,
    )
    for name, content in files.items():
        if len(content) > MAX_METADATA_BYTES:
            raise TooLargeError(
                f"update metadata of {state.model}: expected at most {MAX_METADATA_BYTES} bytes, "
                f"found {len(content)}",
                hint="Withdraw releases that no device runs.",
            )
        context.blobs.put(name, content)
    store.update_repository(tx, after)
    journal.record(
        tx,
        "update_metadata.signed",
        f"model:{state.model}",
        version=version,
        roles=list(roles if state.roles else ROLES),
    )


def _is_as_recorded(context: UpdatesContext, state: RepositoryState) -> bool:
    try:
        content = context.blobs.get(
            metadata_blob(state.model, "timestamp.json"), max_bytes=_MAX_TIMESTAMP_BYTES
        )
        found: Any = Metadata.from_bytes(content).signed
    except (BlobMissingError, TooLargeError, RepositoryError):
        return False
    snapshot = found.snapshot_meta.version if isinstance(found, Timestamp) else None
    names = {role: f"{state.roles[role][0]}.{role}.json" for role in ("targets", "snapshot")}
    return (found.version, snapshot) == (state.roles["timestamp"][0], state.roles["snapshot"][0]) and all(
        context.blobs.find(metadata_blob(state.model, name)) is not None for name in names.values()
    )


def _warn_of_root(db: Database, context: UpdatesContext) -> None:
    root = find_latest_root(context.blobs)
    if root is not None and root.signed.expires - db.clock.now() < _ROOT_WARNING:
        log.warning("tuf_root_expires", at=root.signed.expires.isoformat(), version=root.signed.version)
