"""Approval of releases: two operators, neither the author, and no signature before."""

import json
from pathlib import Path

import pytest

from fleetward.base.db import Database
from fleetward.base.errors import ForbiddenError, NotFoundError
from fleetward.base.events import Severity
from fleetward.features.access.model.roles import Role
from fleetward.features.access.service import operators
from fleetward.features.updates import service
from fleetward.features.updates.model import (
    ArtifactChangedError,
    Release,
    ReleaseError,
    ReleaseState,
    SeparationOfDutyError,
)
from fleetward.features.updates.repository.rendering import measure
from fleetward.features.updates.service import approving
from fleetward.wire import update_paths as paths
from support.people import add_operator, events_of
from support.updates import MODEL, Publisher, make_publisher

IMAGE = b"firmware" * 1000


@pytest.fixture
def publisher(tmp_path: Path, db: Database) -> Publisher:
    """A repository of a platform that has operators."""
    made = make_publisher(tmp_path, db)
    with db.write("operator:test") as tx:
        add_operator(tx, "ada", Role.ADMINISTRATOR)
        for name in ("rita", "ron", "rosa"):
            add_operator(tx, name, Role.RELEASE_MANAGER)
    return made


def hand_in(publisher: Publisher, who: str = "rita", version: str = "1.0.0") -> Release:
    new = publisher.prepare(version, IMAGE)
    return service.publish(publisher.db, publisher.context, f"operator:{who}", new)


def approve(publisher: Publisher, who: str | None, version: str = "1.0.0") -> Release:
    return approving.approve(publisher.db, publisher.context, who, MODEL, version)


def targets(publisher: Publisher) -> list[str]:
    """Return what the newest signed metadata offers to devices; nothing before the first publication."""
    try:
        state = publisher.blobs.get(paths.metadata_blob(MODEL, "timestamp.json"), max_bytes=100_000)
    except NotFoundError:
        return []
    snapshot = json.loads(state)["signed"]["meta"]["snapshot.json"]["version"]
    name = paths.metadata_blob(MODEL, f"{snapshot}.targets.json")
    return sorted(json.loads(publisher.blobs.get(name, max_bytes=100_000))["signed"]["targets"])


def test_a_release_is_offered_after_two_approvals_by_others(publisher: Publisher) -> None:
    pending = hand_in(publisher)
    assert (pending.state, pending.manifest) == (ReleaseState.PENDING, b"")
    assert approve(publisher, "ron").state is ReleaseState.PENDING
    with publisher.db.read() as tx:
        assert service.find_current_release(tx, MODEL) is None
    published = approve(publisher, "rosa")
    assert published.state is ReleaseState.PUBLISHED
    assert published.author == "operator:rita"
    assert json.loads(published.manifest)["signatures"]
    with publisher.db.read() as tx:
        assert service.find_current_release(tx, MODEL) == published
    assert paths.image(MODEL, "1.0.0") in targets(publisher)
    told = [(one.kind, one.actor) for one in events_of(publisher.db, "release.")]
    assert told == [
        ("release.proposed", "operator:rita"),
        ("release.approved", "operator:ron"),
        ("release.approved", "operator:rosa"),
        ("release.published", "operator:rosa"),
    ]


def test_nothing_of_a_pending_release_is_signed_or_offered(publisher: Publisher) -> None:
    hand_in(publisher)
    approve(publisher, "ron")
    found = [one for one in publisher.folder.joinpath("blobs").rglob("*") if one.is_file()]
    signed = [one.name for one in found if b"signatures" in one.read_bytes() and "root" not in one.name]
    assert signed == []


def test_the_author_never_approves(publisher: Publisher) -> None:
    hand_in(publisher)
    with pytest.raises(SeparationOfDutyError):
        approve(publisher, "rita")
    approve(publisher, "ron")
    with pytest.raises(SeparationOfDutyError):
        approve(publisher, "rita")


def test_one_operator_approves_once(publisher: Publisher) -> None:
    hand_in(publisher)
    approve(publisher, "ron")
    with pytest.raises(ReleaseError, match="approved before"):
        approve(publisher, "ron")


def test_the_platforms_own_token_hands_in_and_never_approves(publisher: Publisher) -> None:
    assert hand_in(publisher, "admin").state is ReleaseState.PENDING
    with pytest.raises(ForbiddenError):
        approve(publisher, None)


def test_an_approval_of_who_was_disabled_does_not_count(publisher: Publisher) -> None:
    hand_in(publisher)
    approve(publisher, "ron")
    with publisher.db.write("operator:ada") as tx:
        operators.disable(tx, "ron", "stolen passkey")
    assert approve(publisher, "rosa").state is ReleaseState.PENDING
    assert approve(publisher, "ada").state is ReleaseState.PUBLISHED


def test_a_rejected_release_stays_rejected(publisher: Publisher) -> None:
    hand_in(publisher)
    approve(publisher, "ron")
    rejected = approving.reject(publisher.db, "operator:rosa", MODEL, "1.0.0", "no tests")
    assert (rejected.state, rejected.rejected_by, rejected.rejected_reason) == (
        ReleaseState.REJECTED, "rosa", "no tests",
    )  # fmt: skip
    with pytest.raises(ReleaseError, match="found it rejected"):
        approve(publisher, "ada")
    with pytest.raises(ReleaseError, match="found it rejected"):
        hand_in(publisher)
    with pytest.raises(ReleaseError, match="found it rejected"):
        approving.reject(publisher.db, "operator:rosa", MODEL, "1.0.0", "no tests")
    assert hand_in(publisher, version="1.0.1").security_counter == 2


def test_a_pending_release_is_not_withdrawn(publisher: Publisher) -> None:
    hand_in(publisher)
    with pytest.raises(ReleaseError, match="found it pending"):
        service.withdraw(publisher.db, publisher.context, "operator:ada", MODEL, "1.0.0", "why not")


def test_a_later_release_may_be_approved_first(publisher: Publisher) -> None:
    hand_in(publisher)
    hand_in(publisher, version="1.0.1")
    for version in ("1.0.1", "1.0.0"):
        approve(publisher, "ron", version)
        approve(publisher, "rosa", version)
    with publisher.db.read() as tx:
        current = service.find_current_release(tx, MODEL)
    assert current is not None
    assert current.version == "1.0.1"


def test_a_release_without_its_files_is_not_approved(publisher: Publisher) -> None:
    hand_in(publisher)
    for one in publisher.folder.joinpath("blobs").rglob("*image*"):
        if one.is_file():
            one.unlink()
    with pytest.raises(ReleaseError, match="found some missing"):
        approve(publisher, "ron")
    hand_in(publisher)
    assert approve(publisher, "ron").state is ReleaseState.PENDING


def test_an_interrupted_publication_is_finished_by_approving_again_or_at_the_next_start(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_the_power(*_args: object) -> None:
        raise RuntimeError

    for version in ("1.0.0", "1.0.1"):
        hand_in(publisher, version=version)
        approve(publisher, "ron", version)
        with monkeypatch.context() as patch:
            patch.setattr(approving, "finish", cut_the_power)
            with pytest.raises(RuntimeError):
                approve(publisher, "rosa", version)
    assert approve(publisher, "rosa", "1.0.0").state is ReleaseState.PUBLISHED
    assert service.finish_interrupted(publisher.db, publisher.context) == 1
    with publisher.db.read() as tx:
        assert service.get_release(tx, MODEL, "1.0.1").state is ReleaseState.PUBLISHED


def test_before_there_are_operators_a_release_is_published_at_once(tmp_path: Path, db: Database) -> None:
    publisher = make_publisher(tmp_path, db)
    assert publisher.publish("1.0.0", IMAGE).state is ReleaseState.PUBLISHED


def change(publisher: Publisher, kind: str, content: bytes) -> None:
    """Put other bytes under the name of a stored file, as whoever may write to the store could."""
    (path,) = publisher.folder.joinpath("blobs").rglob(f"*.{kind}*")
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["image", "sbom"])
@pytest.mark.parametrize("is_as_long", [True, False])
@pytest.mark.parametrize("approvals", [0, 1])
def test_a_file_that_changed_since_is_noticed_at_each_approval_and_told(
    publisher: Publisher, kind: str, approvals: int, *, is_as_long: bool
) -> None:
    handed_in = hand_in(publisher)
    for who in ("ron", "rosa")[:approvals]:
        approve(publisher, who)
    length = handed_in.image.length if kind == "image" else handed_in.sbom.length
    change(publisher, kind, b"x" * (length if is_as_long else length - 1))
    with pytest.raises(
        ArtifactChangedError, match=f"expected the {kind} that was handed in".replace("sbom", "SBOM")
    ):
        approve(publisher, "rosa")
    with publisher.db.read() as tx:
        release = service.get_release(tx, MODEL, "1.0.0")
        assert len(service.list_approvals(tx).get(release.id, [])) == approvals, (
            "what was refused left nothing"
        )
    assert (release.state, release.manifest) == (ReleaseState.PENDING, b"")
    assert targets(publisher) == []
    (told,) = events_of(publisher.db, "release.artifact_changed")
    assert told.severity is Severity.CRITICAL
    assert told.details["expected"] == (release.image if kind == "image" else release.sbom).sha256
    hand_in(publisher)
    assert approve(publisher, "rosa").state is (ReleaseState.PUBLISHED if approvals else ReleaseState.PENDING)


def approve_interrupted(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand in a release and approve it twice; the process ends before it is published."""
    hand_in(publisher)
    approve(publisher, "ron")
    with monkeypatch.context() as cut:
        cut.setattr(approving, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            approve(publisher, "rosa")


def test_an_interrupted_publication_is_not_finished_over_a_changed_file(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve_interrupted(publisher, monkeypatch)
    change(publisher, "image", b"x" * len(IMAGE))
    assert service.finish_interrupted(publisher.db, publisher.context) == 0
    assert len(events_of(publisher.db, "release.artifact_changed")) == 1
    assert targets(publisher) == []
    with pytest.raises(ArtifactChangedError):
        approve(publisher, "rosa")
    hand_in(publisher)
    assert paths.image(MODEL, "1.0.0") in targets(publisher)


def test_a_file_planted_under_the_manifests_name_is_replaced(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve_interrupted(publisher, monkeypatch)
    with publisher.db.read() as tx:
        release = service.get_release(tx, MODEL, "1.0.0")
    target = paths.consistent_name(paths.manifest(MODEL, "1.0.0"), measure(release.manifest).sha256)
    name, _ = paths.target_blob(MODEL, target)
    publisher.blobs.put(name, b"planted")
    approve(publisher, "rosa")
    assert publisher.blobs.get(name, max_bytes=100_000) == release.manifest


def test_who_may_not_approve_has_no_file_read(publisher: Publisher) -> None:
    hand_in(publisher)
    approve(publisher, "ron")
    change(publisher, "image", b"x" * len(IMAGE))
    with pytest.raises(SeparationOfDutyError):
        approve(publisher, "rita")
    with pytest.raises(ReleaseError, match="approved before"):
        approve(publisher, "ron")
    assert events_of(publisher.db, "release.artifact_changed") == []
