"""Approval of releases: two operators, neither of them the author. Only then is a release signed.

A release that waits has no signature, so that no copy of it is worth anything to a device.
"""

from collections.abc import Iterable
from dataclasses import replace

from fleetward.base import journal
from fleetward.base.db import Database, Tx
from fleetward.base.errors import ForbiddenError
from fleetward.base.events import Severity, emit
from fleetward.features.access.service.authorize import list_active
from fleetward.features.updates import store
from fleetward.features.updates.context import UpdatesContext
from fleetward.features.updates.model import (
    APPROVALS_NEEDED,
    Approval,
    Release,
    ReleaseError,
    ReleaseState,
    check_approver,
)
from fleetward.features.updates.service.finishing import check_files, finish, sign_manifest
from fleetward.features.updates.service.releases import MAX_REASON_CHARS, get_release, subject_of


def approve(db: Database, context: UpdatesContext, operator: str | None, model: str, version: str) -> Release:
    """Record an approval; the last one that is needed signs the release and offers it to devices.

    Approving a release again whose publication was interrupted finishes it.

    Raises:
        NotFoundError: no such release.
        ForbiddenError: the platform's own token approves.
        SeparationOfDutyError: its author approves.
        ReleaseError: it is not pending, they approved before, or its files are not all stored.
        ArtifactChangedError: a stored file is not what was handed in.
        UnavailableError: the blob store fails; call again to finish.
    """
    if operator is None:
        raise ForbiddenError("approval: expected an operator, found the platform's own token")
    actor = f"operator:{operator}"
    with db.read(actor) as tx:
        found = get_release(tx, model, version)
        _find_awaited(tx, found, operator)  # who may not approve has nothing read
    check_files(db, context, found)
    with db.write(actor) as tx:
        store.lock_model(tx, get_release(tx, model, version).model)
        release = get_release(tx, model, version)
        counted = _find_awaited(tx, release, operator)
        if counted is not None:
            release = _record(tx, context, release, counted, operator)
    return release if release.state is ReleaseState.PENDING else finish(db, context, actor, release)


def reject(db: Database, actor: str, model: str, version: str, reason: str) -> Release:
    """Refuse a pending release for good; its author may take it back this way.

    Raises:
        NotFoundError: no such release.
        ReleaseError: it is not pending.
    """
    with db.write(actor) as tx:
        release = get_release(tx, model, version)
        values = {
            "state": ReleaseState.REJECTED.value,
            "rejected_at": tx.now,
            "rejected_by": actor.removeprefix("operator:"),
            "rejected_reason": reason[:MAX_REASON_CHARS],
        }
        if release.state is not ReleaseState.PENDING or not store.update_release(tx, release, **values):
            raise ReleaseError(f"release {version} of {model}: expected it pending, found it {release.state}")
        journal.record(tx, "release.rejected", subject_of(release), reason=reason[:MAX_REASON_CHARS])
        message = f"{actor} rejected firmware {version} for {model}: {reason}"
        emit(tx, "release.rejected", message, severity=Severity.NOTICE, model=model, version=version)
        return get_release(tx, model, version)


def list_approvals(tx: Tx) -> dict[int, list[Approval]]:
    """Return the approvals of all releases, by release."""
    found: dict[int, list[Approval]] = {}
    for one in store.list_approvals(tx):
        found.setdefault(one.release, []).append(one)
    return found


def list_counted(tx: Tx, release: Release, given: Iterable[Approval]) -> list[Approval]:
    """Return the approvals that count: while a release waits, only of people who may still sign in."""
    if release.state is not ReleaseState.PENDING:
        return list(given)
    active = list_active(tx)
    return [one for one in given if one.operator in active]


def _find_awaited(tx: Tx, release: Release, operator: str) -> list[Approval] | None:
    """Return the approvals that this one comes to; None where it was given and the publication interrupted.

    Raises:
        ReleaseError, SeparationOfDutyError: as `check_approver`.
    """
    given = store.list_approvals(tx, release.id)
    if release.state is ReleaseState.PUBLISHING and operator in {one.operator for one in given}:
        return None
    counted = list_counted(tx, release, given)
    check_approver(release, counted, operator)
    return counted


def _record(
    tx: Tx, context: UpdatesContext, release: Release, counted: list[Approval], operator: str
) -> Release:
    """Insert the approval; return the release as it is then, signed when it was the last."""
    store.insert_approval(tx, Approval(release.id, operator, tx.now))
    missing = APPROVALS_NEEDED - len(counted) - 1
    journal.record(tx, "release.approved", subject_of(release), sha256=release.image.sha256, missing=missing)
    emit(
        tx, "release.approved", f"{operator} approved firmware {release.version} for {release.model}.",
        severity=Severity.NOTICE, model=release.model, version=release.version, missing=missing,
    )  # fmt: skip
    if missing > 0:
        return release
    manifest = sign_manifest(tx, context, release)
    values = {"state": ReleaseState.PUBLISHING.value, "manifest": manifest.decode()}
    if not store.update_release(tx, release, **values):
        raise ReleaseError(
            f"release {release.version} of {release.model}: expected it as read, found another"
        )
    return replace(release, state=ReleaseState.PUBLISHING, manifest=manifest)
