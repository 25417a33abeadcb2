"""Finding releases, in the caller's transaction."""

from fleetward.base.db import Tx
from fleetward.base.errors import NotFoundError
from fleetward.features.updates import store
from fleetward.features.updates.model import Release, ReleaseState, find_current

MAX_REASON_CHARS = 200


def get_release(tx: Tx, model: str, version: str) -> Release:
    """Return a release. Raises NotFoundError when there is none."""
    found = store.find_release(tx, model, version)
    if found is None:
        raise NotFoundError(f"release {version[:80]!r} of {model[:80]!r}: expected it to exist, found none")
    return found


def list_releases(tx: Tx, *, model: str | None = None) -> list[Release]:
    return store.list_releases(tx, model=model)


def find_current_release(tx: Tx, model: str) -> Release | None:
    """Return the release that devices of `model` should run, None when nothing is published."""
    return find_current(store.list_releases(tx, model=model, state=ReleaseState.PUBLISHED))


def list_current_releases(tx: Tx) -> dict[str, Release]:
    """Return for each model the release that its devices should run; models without one are left out."""
    published = store.list_releases(tx, state=ReleaseState.PUBLISHED)
    by_model: dict[str, list[Release]] = {}
    for one in published:
        by_model.setdefault(one.model, []).append(one)
    return {model: current for model, found in by_model.items() if (current := find_current(found))}


def subject_of(release: Release) -> str:
    return f"release:{release.model}/{release.version}"
