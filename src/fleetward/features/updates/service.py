"""Use cases of releases. Publishing cannot be undone, so it is: intent row → artifacts → metadata → outcome.

Once there are operators, a release is handed in as pending and unsigned; `approving` takes it from there.
Devices see nothing before the timestamp names it, and that is written last. Whatever interrupts, asking for
the same publication again finishes it.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from fleetward import __version__
from fleetward.base.clock import render_time
from fleetward.base.db import Database, Tx
from fleetward.base.errors import InvalidInputError, NotFoundError, TooLargeError
from fleetward.base.events import Severity, emit
from fleetward.features.access.service.authorize import is_set_up
from fleetward.features.attestation import service as attestation
from fleetward.features.attestation.model import ReferenceValues
from fleetward.features.audit import service as audit
from fleetward.features.devices import service as devices
from fleetward.features.updates import store
from fleetward.features.updates.boot.measurement import digest_boot_stage
from fleetward.features.updates.context import UpdatesContext
from fleetward.features.updates.metadata import Change, write_metadata
from fleetward.features.updates.model import (
    Artifact,
    Release,
    ReleaseError,
    ReleaseState,
    find_current,
    next_counter,
    parse_sbom,
    parse_version,
)
from fleetward.features.updates.repository import ROLES, measure
from fleetward.wire import update_paths as paths
from fleetward.wire.event_log import Measured
from fleetward.wire.manifest import (
    FirmwareManifest,
    digest_manifest,
    render_manifest,
    render_pinned_keys,
)

MAX_REASON_CHARS = 200
_CHUNK_BYTES = 1024 * 1024


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
    _store_artifacts(context, release, new)
    return release if release.state is ReleaseState.PENDING else finish(db, context, actor, release)


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
            audit.append(tx, "release.withdrawn", subject_of(release), reason=reason[:MAX_REASON_CHARS])
            message = f"Firmware {version} for {model} was withdrawn: {reason}"
            emit(
                tx, "release.withdrawn", message, severity=Severity.NOTICE,
                model=model, version=version, security_counter=release.security_counter,
            )  # fmt: skip

    write_metadata(db, context, actor, Change(model, ROLES, record))
    with db.read(actor) as tx:
        return get_release(tx, model, version)


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


def register_boot_references(db: Database, context: UpdatesContext) -> None:
    """Let devices attest with this release's boot stage and with the firmware keys of this platform."""
    pinned = hashlib.sha256(render_pinned_keys([context.firmware_key.public_key()])).hexdigest()
    with db.write("system:updates") as tx:
        attestation.add_boot_reference(tx, Measured.BOOT_STAGE, digest_boot_stage().hex(), __version__)
        attestation.add_boot_reference(tx, Measured.PINNED_KEYS, pinned, "")


def finish_interrupted(db: Database, context: UpdatesContext) -> int:
    """Finish the publications whose files are all stored; return how many. For the start of a process."""
    with db.read() as tx:
        begun = store.list_releases(tx, state=ReleaseState.PUBLISHING)
    ready = [one for one in begun if has_files(context, one)]
    for release in ready:
        finish(db, context, "system:updates", release)
    return len(ready)


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
    audit.append(
        tx, "release.proposed", subject_of(release), sha256=image.sha256, security_counter=counter,
        sbom_sha256=sbom.sha256,
    )  # fmt: skip
    message = f"{tx.actor} hands in firmware {new.version} for {new.model}; it waits for two approvals."
    emit(tx, "release.proposed", message, severity=Severity.NOTICE,
         model=new.model, version=new.version, security_counter=counter, sha256=image.sha256)  # fmt: skip
    return release


def sign_manifest(tx: Tx, context: UpdatesContext, release: Release) -> bytes:
    """Return the signed manifest of a release, and record that it was signed."""
    manifest = FirmwareManifest(
        model=release.model,
        version=release.version,
        security_counter=release.security_counter,
        sha256=release.image.sha256,
        length=release.image.length,
        sbom_sha256=release.sbom.sha256,
        created_at=render_time(tx.now),
    )
    audit.append(
        tx, "release.signed", subject_of(release), sha256=release.image.sha256,
        security_counter=release.security_counter, sbom_sha256=release.sbom.sha256,
    )  # fmt: skip
    return render_manifest(manifest, [context.firmware_key])


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


def finish(db: Database, context: UpdatesContext, actor: str, release: Release) -> Release:
    """Name a signed release, whose files are stored, in metadata and record that it is out."""
    for name, artifact in _artifact_blobs(release).items():
        if artifact not in (release.image, release.sbom) and context.blobs.find(name) is None:
            context.blobs.put(name, release.manifest)

    def record(tx: Tx) -> None:
        values = {"state": ReleaseState.PUBLISHED.value, "published_at": tx.now}
        if not store.update_release(tx, release, **values):
            return
        attestation.add_reference(
            tx,
            release.model,
            release.version,
            ReferenceValues(release.image.sha256, digest_manifest(release.manifest).hex()),
        )
        audit.append(
            tx, "release.published", subject_of(release), sha256=release.image.sha256,
            security_counter=release.security_counter,
        )  # fmt: skip
        emit(
            tx,
            "release.published",
            f"Firmware {release.version} for {release.model} was published by {release.author}.",
            model=release.model,
            version=release.version,
            security_counter=release.security_counter,
            sha256=release.image.sha256,
            sbom_sha256=release.sbom.sha256,
        )

    write_metadata(db, context, actor, Change(release.model, ROLES, record))
    with db.read(actor) as tx:
        return store.get_release(tx, release.model, release.version)


def _artifact_blobs(release: Release) -> dict[str, Artifact]:
    """Return the blob names of a release's files; the manifest has none before it is signed."""
    targets = {
        paths.image(release.model, release.version): release.image,
        paths.sbom(release.model, release.version): release.sbom,
    }
    if release.is_signed:
        manifest = measure(release.manifest)
        targets[paths.manifest(release.model, release.version)] = manifest
        targets[paths.current_manifest(release.model)] = manifest
    names = {paths.consistent_name(target, one.sha256): one for target, one in targets.items()}
    return {paths.target_blob(release.model, name)[0]: one for name, one in names.items()}


def _store_artifacts(context: UpdatesContext, release: Release, new: NewRelease) -> None:
    for name, artifact in _artifact_blobs(release).items():
        found = context.blobs.find(name)
        if found is not None and found.length == artifact.length:
            continue  # names carry the digest, and a blob is stored whole or not at all
        if artifact == release.image:
            context.blobs.put_file(name, new.image)
        else:
            context.blobs.put(name, new.sbom if artifact == release.sbom else release.manifest)


def has_files(context: UpdatesContext, release: Release) -> bool:
    """Whether image and SBOM are stored."""
    for name, artifact in _artifact_blobs(replace(release, manifest=b"")).items():
        found = context.blobs.find(name)
        if found is None or found.length != artifact.length:
            return False
    return True


def _measure_image(path: Path, max_bytes: int) -> Artifact:
    sha256, sha512, length = hashlib.sha256(), hashlib.sha512(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            length += len(chunk)
            if length > max_bytes:
                raise TooLargeError(f"image: expected at most {max_bytes} bytes, found more")
            sha256.update(chunk)
            sha512.update(chunk)
    if not length:
        raise InvalidInputError("image: expected firmware, found an empty file")
    return Artifact(sha256.hexdigest(), sha512.hexdigest(), length)


def subject_of(release: Release) -> str:
    return f"release:{release.model}/{release.version}"
