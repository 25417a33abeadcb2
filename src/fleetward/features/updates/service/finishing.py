"""The steps of a release on its way out. Each may be repeated: names of files carry their digests."""

from dataclasses import replace
from pathlib import Path

from fleetward.base import journal
from fleetward.base.clock import render_time
from fleetward.base.db import Database, Tx
from fleetward.base.events import Severity, emit
from fleetward.features.attestation import service as attestation
from fleetward.features.attestation.model import ReferenceValues
from fleetward.features.updates import store
from fleetward.features.updates.context import UpdatesContext
from fleetward.features.updates.model import (
    Artifact,
    ArtifactChangedError,
    Release,
    ReleaseError,
    ReleaseState,
)
from fleetward.features.updates.ports import BlobMissingError
from fleetward.features.updates.repository.metadata import Change, write_metadata
from fleetward.features.updates.repository.rendering import ROLES, measure, measure_chunks
from fleetward.features.updates.service.releases import subject_of
from fleetward.wire import update_paths as paths
from fleetward.wire.manifest import FirmwareManifest, digest_manifest, render_manifest


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
    journal.record(
        tx, "release.signed", subject_of(release), sha256=release.image.sha256,
        security_counter=release.security_counter, sbom_sha256=release.sbom.sha256,
    )  # fmt: skip
    return render_manifest(manifest, [context.firmware_key])


def finish(db: Database, context: UpdatesContext, actor: str, release: Release) -> Release:
    """Name a signed release in metadata and record that it is out; the caller has looked at its files."""
    for name, artifact in _artifact_blobs(release).items():
        is_manifest = artifact not in (release.image, release.sbom)
        if is_manifest and _measure_blob(context, name) != artifact:
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
        journal.record(
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


def check_files(db: Database, context: UpdatesContext, release: Release) -> None:
    """Pass when image and SBOM are stored as they were handed in, to the last bit.

    Whoever can write to the store could put others under their names: an act that trusts them looks first and
    tells what it finds. It reads all of them.

    Raises:
        ReleaseError: some are missing.
        ArtifactChangedError: one is not what was handed in.
        UnavailableError: the store does not answer.
    """
    for name, artifact in _artifact_blobs(replace(release, manifest=b"")).items():
        found = _measure_blob(context, name)
        of = f"release {release.version} of {release.model}"
        if found is None:
            raise ReleaseError(
                f"{of}: expected its files stored, found some missing",
                hint="Its author publishes the same files again to finish the upload.",
            )
        if found != artifact:
            what = "image" if artifact == release.image else "SBOM"
            _tell_changed(db, release, what, expected=artifact.sha256, found=found.sha256)
            raise ArtifactChangedError(
                f"{of}: expected the {what} that was handed in, found another stored under its name",
                hint="Somebody changed the blob store: find out who may write there. Then its author "
                "publishes the same files again, or it is rejected.",
            )


def _measure_blob(context: UpdatesContext, name: str) -> Artifact | None:
    stored = context.blobs.find(name)
    if stored is None:
        return None
    try:
        return measure_chunks(context.blobs.read(name, start=0, length=stored.length))
    except BlobMissingError:
        return None


def _tell_changed(db: Database, release: Release, what: str, *, expected: str, found: str) -> None:
    with db.write("system:updates") as tx:
        emit(
            tx,
            "release.artifact_changed",
            f"The {what} of firmware {release.version} for {release.model} is not what was handed in.",
            severity=Severity.CRITICAL,
            model=release.model,
            version=release.version,
            expected=expected,
            found=found,
        )


def _artifact_blobs(release: Release) -> dict[str, Artifact]:
    """Return the blob names of a release's files; the manifest has none before it is signed."""
    targets = {
        paths.image(release.model, release.version): release.image,
        paths.sbom(release.model, release.version): release.sbom,
    }
    if release.is_signed:
        manifest = measure(release.manifest)
        targets[paths.manifest(release.model, release.version)] = manifest
        targets[paths.current_manifest(release.model, paths.DEFAULT_CHANNEL)] = manifest
    names = {paths.consistent_name(target, one.sha256): one for target, one in targets.items()}
    return {paths.target_blob(release.model, name)[0]: one for name, one in names.items()}


def store_artifacts(context: UpdatesContext, release: Release, *, image: Path, sbom: bytes) -> None:
    """Store what is not there as it should be of a release's files, and of its manifest if it has one."""
    for name, artifact in _artifact_blobs(release).items():
        if _measure_blob(context, name) == artifact:
            continue
        if artifact == release.image:
            context.blobs.put_file(name, image)
        else:
            context.blobs.put(name, sbom if artifact == release.sbom else release.manifest)
