import dataclasses
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from fleetward.base.db import Database
from fleetward.base.errors import (
    ConfigError,
    InvalidInputError,
    KeyUnavailableError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from fleetward.base.events import list_events
from fleetward.features.audit import service as audit
from fleetward.features.updates import service
from fleetward.features.updates.context import load_updates_context
from fleetward.features.updates.model import ReleaseError, ReleaseState
from fleetward.features.updates.repository import metadata
from fleetward.features.updates.repository.ceremony import create_update_repository, sign_next_root
from fleetward.outside.blobs.open import open_blobs
from fleetward.wire.manifest import parse_pinned_keys, verify_manifest
from support.clock import ManualClock
from support.updates import MODEL, PASSPHRASE, SBOM, Publisher, make_publisher

IMAGE = b"firmware one " * 1000


@pytest.fixture
def publisher(tmp_path: Path, db: Database) -> Publisher:
    return make_publisher(tmp_path / "platform", db)


def timestamp(publisher: Publisher, model: str = MODEL) -> Any:
    return Metadata.from_bytes(publisher.blobs.get(f"tuf/{model}/timestamp.json", max_bytes=16_384)).signed


def targets(publisher: Publisher) -> dict[str, Any]:
    snapshot_version = timestamp(publisher).snapshot_meta.version
    snapshot: Any = Metadata.from_bytes(
        publisher.blobs.get(f"tuf/{MODEL}/{snapshot_version}.snapshot.json", max_bytes=16_384)
    ).signed
    version = snapshot.meta["targets.json"].version
    found: Any = Metadata.from_bytes(
        publisher.blobs.get(f"tuf/{MODEL}/{version}.targets.json", max_bytes=1_000_000)
    ).signed
    return dict(found.targets)


def actions(db: Database) -> list[str]:
    with db.read() as tx:
        return [entry.action for entry, _ in audit.search(tx)]


def test_a_published_release_is_signed_named_audited_and_told(publisher: Publisher) -> None:
    release = publisher.publish("1.0.0", IMAGE)

    assert release.state is ReleaseState.PUBLISHED
    manifest = verify_manifest(release.manifest, parse_pinned_keys(publisher.pinned))
    assert (manifest.model, manifest.version, manifest.length) == (MODEL, "1.0.0", len(IMAGE))
    assert manifest.security_counter == 1
    assert set(targets(publisher)) == {
        f"{MODEL}/manifest.dsse.json",
        f"{MODEL}/1.0.0/manifest.dsse.json",
        f"{MODEL}/1.0.0/image",
        f"{MODEL}/1.0.0/sbom.cdx.json",
    }
    stored = publisher.blobs.get(
        f"tuf/targets/{MODEL}/1.0.0/{release.image.sha256}.image", max_bytes=len(IMAGE)
    )
    assert stored == IMAGE
    assert [name for name in actions(publisher.db) if name.startswith("release")] == [
        "release.signed",
        "release.published",
    ]
    with publisher.db.read() as tx:
        [event] = [one for one in list_events(tx) if one.kind == "release.published"]
    assert event.details["version"] == "1.0.0"


def test_publishing_the_same_again_changes_nothing(publisher: Publisher) -> None:
    first = publisher.publish("1.0.0", IMAGE)
    before = timestamp(publisher).version
    assert publisher.publish("1.0.0", IMAGE) == first
    assert timestamp(publisher).version == before


def test_a_version_never_gets_other_content(publisher: Publisher) -> None:
    publisher.publish("1.0.0", IMAGE)
    with pytest.raises(ReleaseError, match="other content"):
        publisher.publish("1.0.0", b"something else")


def test_counters_only_grow(publisher: Publisher) -> None:
    publisher.publish("1.0.0", IMAGE, counter=7)
    assert publisher.publish("1.0.1", b"two").security_counter == 8
    for counter in (8, 3):
        with pytest.raises(ReleaseError, match="more than 8"):
            publisher.publish("1.0.2", b"three", counter=counter)
    with pytest.raises(InvalidInputError, match="security counter"):
        publisher.publish("1.0.2", b"three", counter=2**40)


@pytest.mark.parametrize("version", ["", "../x", "1/2", "a b", "x" * 65, "ü"])
def test_versions_that_do_not_fit_a_path_are_refused(publisher: Publisher, version: str) -> None:
    new = dataclasses.replace(publisher.prepare("ok", IMAGE), version=version)
    with pytest.raises(InvalidInputError, match="version"):
        service.publish(publisher.db, publisher.context, "operator:test", new)


@pytest.mark.parametrize(
    "sbom", [b"", b"{}", b"[" * 100_000, b'{"bomFormat":"SPDX","specVersion":"1.6"}', b"\xff", SBOM[:-3]]
)
def test_what_is_no_cyclonedx_is_refused(publisher: Publisher, sbom: bytes) -> None:
    new = dataclasses.replace(publisher.prepare("1.0.0", IMAGE), sbom=sbom)
    with pytest.raises(InvalidInputError, match="SBOM"):
        service.publish(publisher.db, publisher.context, "operator:test", new)


def test_an_empty_an_oversized_and_an_orphan_image_are_refused(publisher: Publisher) -> None:
    small = dataclasses.replace(publisher.context, max_image_bytes=10)
    with pytest.raises(InvalidInputError, match="empty"):
        publisher.publish("1.0.0", b"")
    with pytest.raises(TooLargeError):
        service.publish(publisher.db, small, "operator:test", publisher.prepare("1.0.0", b"x" * 11))
    with pytest.raises(NotFoundError, match="model"):
        publisher.publish("1.0.0", IMAGE, model="nobody")


def test_the_newest_counter_is_current_and_withdrawing_steps_back(publisher: Publisher) -> None:
    publisher.publish("1.0.0", IMAGE)
    second = publisher.publish("1.1.0", b"two")
    current = f"{MODEL}/manifest.dsse.json"
    assert (
        targets(publisher)[current].hashes == targets(publisher)[f"{MODEL}/1.1.0/manifest.dsse.json"].hashes
    )

    withdrawn = service.withdraw(
        publisher.db, publisher.context, "operator:test", MODEL, "1.1.0", "it overheats"
    )

    assert withdrawn.state is ReleaseState.WITHDRAWN
    assert withdrawn.withdrawn_reason == "it overheats"
    assert (
        targets(publisher)[current].hashes == targets(publisher)[f"{MODEL}/1.0.0/manifest.dsse.json"].hashes
    )
    assert f"{MODEL}/1.1.0/image" not in targets(publisher)
    with pytest.raises(ReleaseError, match="withdrawn"):
        publisher.publish("1.1.0", b"two")
    assert publisher.publish("1.2.0", b"three").security_counter == second.security_counter + 1


@dataclasses.dataclass(frozen=True)
class FailingBlobs:
    """A store that fails at its n-th write, before or after it took effect."""

    inner: Any
    writes: list[str]
    fails_at: int
    is_after: bool

    def _write(self, act: Any, name: str, content: Any) -> None:
        self.writes.append(name)
        if len(self.writes) == self.fails_at and not self.is_after:
            raise UnavailableError("blob store: planted failure")
        act(name, content)
        if len(self.writes) == self.fails_at:
            raise UnavailableError("blob store: planted failure")

    def put(self, name: str, content: bytes) -> None:
        self._write(self.inner.put, name, content)

    def put_file(self, name: str, source: Path) -> None:
        self._write(self.inner.put_file, name, source)

    def get(self, name: str, *, max_bytes: int) -> bytes:
        return bytes(self.inner.get(name, max_bytes=max_bytes))

    def find(self, name: str) -> Any:
        return self.inner.find(name)

    def read(self, name: str, *, start: int, length: int) -> Any:
        return self.inner.read(name, start=start, length=length)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("fails_at", range(1, 8))
def test_an_interrupted_publication_is_finished_by_asking_again(
    publisher: Publisher, fails_at: int, is_after: bool
) -> None:
    publisher.publish("1.0.0", IMAGE)
    failing = FailingBlobs(publisher.blobs, [], fails_at, is_after)
    context = dataclasses.replace(publisher.context, blobs=failing)
    new = publisher.prepare("2.0.0", b"two" * 1000)
    with pytest.raises(UnavailableError):
        service.publish(publisher.db, context, "operator:test", new)

    before = timestamp(publisher).version
    release = service.publish(publisher.db, publisher.context, "operator:test", new)

    assert release.state is ReleaseState.PUBLISHED
    assert f"{MODEL}/2.0.0/image" in targets(publisher)
    assert timestamp(publisher).version > before or not is_after
    assert actions(publisher.db).count("release.published") == 2


def test_the_next_start_finishes_what_has_all_its_artifacts(publisher: Publisher) -> None:
    failing = FailingBlobs(publisher.blobs, [], 6, is_after=False)
    context = dataclasses.replace(publisher.context, blobs=failing)
    with pytest.raises(UnavailableError):
        service.publish(publisher.db, context, "operator:test", publisher.prepare("1.0.0", IMAGE))
    lost = FailingBlobs(publisher.blobs, [], 1, is_after=False)
    with pytest.raises(UnavailableError):
        service.publish(
            publisher.db,
            dataclasses.replace(publisher.context, blobs=lost),
            "operator:test",
            publisher.prepare("1.1.0", b"never stored"),
        )

    assert service.finish_interrupted(publisher.db, publisher.context) == 1

    with publisher.db.read() as tx:
        states = {one.version: one.state for one in service.list_releases(tx, model=MODEL)}
    assert states == {"1.0.0": ReleaseState.PUBLISHED, "1.1.0": ReleaseState.PUBLISHING}


def test_metadata_is_signed_anew_at_half_of_its_life(publisher: Publisher, clock: ManualClock) -> None:
    publisher.publish("1.0.0", IMAGE)
    first = timestamp(publisher)
    clock.advance(timedelta(hours=11))
    assert metadata.refresh_due(publisher.db, publisher.context) == 0
    clock.advance(timedelta(hours=2))
    assert metadata.refresh_due(publisher.db, publisher.context) == 1
    second = timestamp(publisher)
    assert second.version > first.version
    assert second.expires > first.expires
    assert second.snapshot_meta.version == first.snapshot_meta.version

    clock.advance(timedelta(days=400))
    assert metadata.refresh_due(publisher.db, publisher.context) == 1
    assert timestamp(publisher).snapshot_meta.version > first.snapshot_meta.version
    assert f"{MODEL}/1.0.0/image" in targets(publisher)


@pytest.mark.parametrize("damage", ["missing", "torn", "old"])
def test_a_start_mends_metadata_that_is_not_what_was_recorded(publisher: Publisher, damage: str) -> None:
    publisher.publish("1.0.0", IMAGE)
    path = publisher.folder / "blobs" / "tuf" / MODEL / "timestamp.json"
    old = path.read_bytes()
    publisher.publish("1.1.0", b"two")
    newest = timestamp(publisher).version
    assert metadata.repair(publisher.db, publisher.context) == 0
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(old if damage == "old" else old[:100])

    assert metadata.repair(publisher.db, publisher.context) == 1

    assert timestamp(publisher).version > newest
    assert f"{MODEL}/1.1.0/image" in targets(publisher)


def test_the_ceremony_never_overwrites_and_finishes_what_was_interrupted(
    publisher: Publisher, clock: ManualClock
) -> None:
    def contents() -> dict[str, bytes]:
        found = [path for room in ("keys", "offline", "ca") for path in (publisher.folder / room).iterdir()]
        return {path.name: path.read_bytes() for path in found}

    before = contents()
    (publisher.folder / "ca" / "tuf-root.json").unlink()
    create_update_repository(
        publisher.folder, publisher.blobs, passphrase=b"not needed any more", now=clock.now()
    )
    assert contents() == before
    for path in [*(publisher.folder / "keys").iterdir(), *(publisher.folder / "offline").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0
    assert b"ENCRYPTED" in (publisher.folder / "offline" / "tuf-root.key.pem").read_bytes()


def test_a_new_root_replaces_keys_and_everything_is_signed_anew(
    publisher: Publisher, clock: ManualClock
) -> None:
    publisher.publish("1.0.0", IMAGE)
    now: datetime = clock.now()
    with pytest.raises(ConfigError, match="passphrase"):
        sign_next_root(publisher.folder, publisher.blobs, passphrase=b"wrong", now=now)
    replaced = frozenset({"timestamp", "snapshot"})
    version = sign_next_root(
        publisher.folder, publisher.blobs, passphrase=PASSPHRASE, now=now, replace=replaced
    )
    assert version == 2
    context = load_updates_context(publisher.folder, publisher.blobs)
    before = timestamp(publisher).version
    assert metadata.refresh_due(publisher.db, context) == 1
    assert timestamp(publisher).version > before
    root = Metadata.from_bytes(publisher.blobs.get("tuf/root/2.root.json", max_bytes=100_000))
    content = publisher.blobs.get(f"tuf/{MODEL}/timestamp.json", max_bytes=16_384)
    stored = Metadata.from_bytes(content)
    root.signed.verify_delegate("timestamp", stored.signed_bytes, stored.signatures)
    assert sign_next_root(publisher.folder, publisher.blobs, passphrase=PASSPHRASE, now=now) == 3


def test_an_interrupted_key_replacement_is_finished(
    publisher: Publisher, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = frozenset({"timestamp"})

    def cut_power(*_args: object, **_more: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr("fleetward.features.updates.repository.ceremony.write_key", cut_power)
        with pytest.raises(OSError, match="power"):
            sign_next_root(
                publisher.folder, publisher.blobs, passphrase=PASSPHRASE, now=clock.now(), replace=replaced
            )
    with pytest.raises(KeyUnavailableError):
        load_updates_context(publisher.folder, publisher.blobs)
    version = sign_next_root(
        publisher.folder, publisher.blobs, passphrase=PASSPHRASE, now=clock.now(), replace=replaced
    )
    assert version == 2
    load_updates_context(publisher.folder, publisher.blobs)


def test_a_platform_without_a_repository_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="init"):
        load_updates_context(tmp_path, open_blobs((tmp_path / "empty").as_uri()))


def test_nothing_secret_is_audited_or_told(publisher: Publisher) -> None:
    publisher.publish("1.0.0", IMAGE)
    key = (publisher.folder / "keys" / "firmware.pem").read_text().splitlines()[1]
    with publisher.db.read() as tx:
        told = json.dumps([one.as_json() for one in list_events(tx)])
        entries = repr([entry for entry, _ in audit.search(tx)])
    assert key not in told + entries + repr(publisher.context)
