"""Withdrawal of releases: nothing is taken from devices that run one."""

from fleetward.base import journal
from fleetward.base.db import Database, Tx
from fleetward.base.events import Severity, emit
from fleetward.features.updates import store
from fleetward.features.updates.context import UpdatesContext
from fleetward.features.updates.model import Release, ReleaseError, ReleaseState
from fleetward.features.updates.repository.metadata import Change, write_metadata
from fleetward.features.updates.repository.rendering import ROLES
from fleetward.features.updates.service.releases import MAX_REASON_CHARS, get_release, subject_of


def withdraw(
    db: Database, context: UpdatesContext, actor: str, model: str, version: str, reason: str
) -> Release:
    """Offer a release no longer. Devices that run it stay on it: they never go back, only forward.

    Raises:
        NotFoundError: no such release.
        ReleaseError: it was never completely published.
    """
    with db.read(actor) as tx:
        release = get_release(tx, model, version)
    if release.state is ReleaseState.WITHDRAWN:
        return release
    if release.state in (ReleaseState.PENDING, ReleaseState.REJECTED):
        raise ReleaseError(
            f"release {version} of {model}: expected it published, found it {release.state}",
            hint="A pending release is rejected: fleetward release reject",
        )
    if release.state is ReleaseState.PUBLISHING:
        raise ReleaseError(
            f"release {version} of {model}: expected it published, found its publication unfinished",
            hint="Publish the same files again to finish it, then withdraw it.",
        )

    def record(tx: Tx) -> None:
        values = {
            "state": ReleaseState.WITHDRAWN.value,
            "withdrawn_at": tx.now,
            "withdrawn_reason": reason[:MAX_REASON_CHARS],
        }
        if store.update_release(tx, release, **values):
            journal.record(tx, "release.withdrawn", subject_of(release), reason=reason[:MAX_REASON_CHARS])
            message = f"Firmware {version} for {model} was withdrawn: {reason}"
            emit(
                tx, "release.withdrawn", message, severity=Severity.NOTICE,
                model=model, version=version, security_counter=release.security_counter,
            )  # fmt: skip

    write_metadata(db, context, actor, Change(model, ROLES, record))
    with db.read(actor) as tx:
        return get_release(tx, model, version)
