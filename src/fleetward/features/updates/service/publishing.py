"""Publishing a release cannot be undone, so it is: intent row → artifacts → metadata → outcome.

Once there are operators, a release is handed in as pending and unsigned; `approving` takes it from there.
Devices see nothing before the timestamp names it, and that is written last. Whatever interrupts, asking for
the same publication again finishes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fleetward.base import journal
from fleetward.base.db import Database, Tx
from fleetward.base.errors import InvalidInputError, TooLargeError
from fleetward.base.events import Severity, emit
from fleetward.base.logging import get_logger
from fleetward.features.access.service.authorize import is_set_up
from fleetward.features.devices import service as devices
from fleetward.features.updates import store
from fleetward.features.updates.context import UpdatesContext
from fleetward.features.updates.model import (
    Artifact,
    Release,
    ReleaseError,
    ReleaseState,
    next_counter,
    parse_sbom,
    parse_version,
)
from fleetward.features.updates.repository.rendering import measure, measure_chunks
from fleetward.features.updates.service.finishing import check_files, finish, sign_manifest, store_artifacts
from fleetward.features.updates.service.releases import subject_of

_CHUNK_BYTES = 1024 * 1024
log = get_logger("updates")


@dataclass(frozen=True)
class NewRelease:
    """What an operator hands in.

    Attributes:
        image: a file that stays unchanged until `publish` returns.
        sbom: CycloneDX JSON.
        security_counter: None takes the next one.
    """

    model: str
    version: str
    image: Path
    sbom: bytes
    security_counter: int | None = None


def publish(db: Database, context: UpdatesContext, actor: str, new: NewRelease) -> Release:
    """Sign a release and offer it to every device of its model; doing it again changes nothing.

    Once there are operators it waits for two of them, unsigned, and is returned as pending.

    Raises:
        InvalidInputError: bad version, counter or SBOM, or an empty image.
        TooLargeError: image or SBOM over its limit.
        NotFoundError: no such model.
        ReleaseError: the version exists with other content, or the counter does not grow.
        UnavailableError: the blob store fails; call again to finish.
    """
    image = _measure_image(new.image, context.max_image_bytes)
    sbom = measure(new.sbom)
    parse_sbom(new.sbom)
    with db.write(actor) as tx:
        release = _begin(tx, context, new, image, sbom)
    if release.state is ReleaseState.PUBLISHED:
        return release
    store_artifacts(context, release, image=new.image, sbom=new.sbom)
    return release if release.state is ReleaseState.PENDING else finish(db, context, actor, release)


def finish_interrupted(db: Database, context: UpdatesContext) -> int:
    """Finish the publications whose files are all stored; return how many. For the start of a process.

    One that lacks files, or whose files were changed, which is told, stays as it is: its author may go on.
    """
    with db.read() as tx:
        begun = store.list_releases(tx, state=ReleaseState.PUBLISHING)
    finished = 0
    for release in begun:
        try:
            check_files(db, context, release)
        except ReleaseError as error:
            log.warning("publication_waits", model=release.model, version=release.version, why=error.message)
            continue
        finish(db, context, "system:updates", release)
        finished += 1
    return finished


def _begin(tx: Tx, context: UpdatesContext, new: NewRelease, image: Artifact, sbom: Artifact) -> Release:
    """Record the intent and sign the manifest, or return what an earlier call recorded."""
    parse_version(new.version)
    devices.get_model(tx, new.model)
    store.lock_model(tx, new.model)
    existing = store.find_release(tx, new.model, new.version)
    if existing is not None:
        return _check_same(existing, new, image, sbom)
    counter = next_counter(new.model, store.highest_counter(tx, new.model), new.security_counter)
    wanted = Release(
        id=0,
        model=new.model,
        version=new.version,
        state=ReleaseState.PENDING if is_set_up(tx) else ReleaseState.PUBLISHING,
        security_counter=counter,
        image=image,
        sbom=sbom,
        manifest=b"",
        author=tx.actor,
        created_at=tx.now,
    )
    if wanted.state is ReleaseState.PUBLISHING:
        return store.insert_release(tx, replace(wanted, manifest=sign_manifest(tx, context, wanted)))
    release = store.insert_release(tx, wanted)
    journal.record(
        tx, "release.proposed", subject_of(release), sha256=image.sha256, security_counter=counter,
        sbom_sha256=sbom.sha256,
    )  # fmt: skip
    message = f"{tx.actor} hands in firmware {new.version} for {new.model}; it waits for two approvals."
    emit(tx, "release.proposed", message, severity=Severity.NOTICE,
         model=new.model, version=new.version, security_counter=counter, sha256=image.sha256)  # fmt: skip
    return release


def _check_same(existing: Release, new: NewRelease, image: Artifact, sbom: Artifact) -> Release:
    if existing.state in (ReleaseState.WITHDRAWN, ReleaseState.REJECTED):
        raise ReleaseError(
            f"release {new.version} of {new.model}: expected a new version, found it {existing.state}",
            hint="Publish the mended firmware under a new version.",
        )
    is_same = (existing.image, existing.sbom) == (image, sbom)
    if not is_same or new.security_counter not in (None, existing.security_counter):
        raise ReleaseError(
            f"release {new.version} of {new.model}: expected a new version, found it with other content",
            hint="Releases never change: choose another version.",
        )
    return existing


def _measure_image(path: Path, max_bytes: int) -> Artifact:
    image = measure_chunks(_read_image(path, max_bytes))
    if not image.length:
        raise InvalidInputError("image: expected firmware, found an empty file")
    return image


def _read_image(path: Path, max_bytes: int) -> Iterator[bytes]:
    length = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            length += len(chunk)
            if length > max_bytes:
                raise TooLargeError(f"image: expected at most {max_bytes} bytes, found more")
            yield chunk
