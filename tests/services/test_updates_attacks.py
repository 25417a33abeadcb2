"""What attackers send a device instead of updates, over real HTTP."""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Metadata, Timestamp

from fleetward.features.updates import service
from fleetward.features.updates.boot.pointer import Slot
from fleetward.features.updates.context import load_updates_context
from fleetward.features.updates.ports import Download
from fleetward.features.updates.repository import metadata
from fleetward.features.updates.repository.ceremony import sign_next_root
from fleetward.features.updates.repository.rendering import sign
from support.clock import ManualClock
from support.update_device import (
    NEW,
    OLD,
    Answer,
    Bent,
    Device,
    HttpFetcher,
    UpdateRig,
    bend_images,
    update_rig,
)
from support.updates import MODEL, PASSPHRASE, Publisher


@pytest.fixture
def rig(tmp_path: Path, clock: ManualClock) -> Iterator[UpdateRig]:
    with update_rig(tmp_path, clock) as made:
        yield made


@pytest.fixture
def publisher(rig: UpdateRig) -> Publisher:
    return rig.publisher


@pytest.fixture
def device(rig: UpdateRig) -> Device:
    return rig.device


@pytest.fixture
def fetch(rig: UpdateRig) -> HttpFetcher:
    return rig.fetch


def test_a_tampered_image_never_reaches_a_slot(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    release = publisher.publish("1.1.0", NEW)
    stored = publisher.folder / "blobs" / "tuf" / "targets" / MODEL / "1.1.0"
    path = stored / f"{release.image.sha256}.image"
    path.write_bytes(b"evil" + NEW[4:])

    device.run(device.runner(fetch), lambda: "update.refused" in device.kinds)

    assert "digests" in device.error
    assert device.holds(Slot.B) is None
    assert not (device.config.state_dir / "download.part").exists()
    path.write_bytes(NEW)  # the mirror was mended: the device takes the release after all
    device.run_to_reboot(fetch)
    assert device.holds(Slot.B) == NEW


def test_firmware_signed_by_a_stranger_is_refused_before_it_is_downloaded(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    stranger = dataclasses.replace(publisher.context, firmware_key=Ed25519PrivateKey.generate())
    service.publish(publisher.db, stranger, "operator:thief", publisher.prepare("1.1.0", NEW))

    for _ in range(3):
        device.run_to_rest(fetch)

    assert device.kinds == ["update.refused"], "told once"
    assert "stranger" in device.told[0].message or "pinned keys" in device.told[0].message
    assert fetch.images == []
    assert device.holds(Slot.B) is None


def test_metadata_rolled_back_is_refused(
    publisher: Publisher, device: Device, fetch: HttpFetcher, tmp_path: Path
) -> None:
    stored = publisher.folder / "blobs" / "tuf" / MODEL
    shutil.copytree(stored, tmp_path / "old")
    publisher.publish("1.1.0", OLD + b"1")
    device.run_to_reboot(fetch)
    shutil.rmtree(stored)
    shutil.copytree(tmp_path / "old", stored)
    runner = device.runner(fetch)
    device.boot()
    runner = device.runner(fetch)
    runner.report_health(is_healthy=True)

    device.run(runner, lambda: "update.refused" in device.kinds)

    assert "version" in device.error


def test_frozen_metadata_is_refused_and_fresh_metadata_taken_again(
    publisher: Publisher, device: Device, fetch: HttpFetcher, clock: ManualClock
) -> None:
    device.run_to_rest(fetch)
    clock.advance(timedelta(days=400))
    publisher_silent = len(device.told)
    device.run(device.runner(fetch), lambda: len(device.told) > publisher_silent)
    assert device.told[-1].kind == "update.refused"
    assert "expired" in device.error

    assert metadata.refresh_due(publisher.db, publisher.context) == 1
    publisher.publish("1.1.0", NEW)
    device.run_to_reboot(fetch)
    assert device.holds(Slot.B) == NEW


def test_a_damaged_metadata_cache_is_fetched_again(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    device.run_to_rest(fetch)
    for path in (device.config.state_dir / "tuf").rglob("*.json"):
        if not path.is_symlink():
            path.write_bytes(b'{"signed": ')
    publisher.publish("1.1.0", NEW)
    device.run_to_reboot(fetch)


def test_a_thiefs_fast_forward_ends_with_new_keys(
    publisher: Publisher, device: Device, fetch: HttpFetcher, clock: ManualClock
) -> None:
    path = publisher.folder / "blobs" / "tuf" / MODEL / "timestamp.json"
    honest = path.read_bytes()
    far = Metadata[Timestamp].from_bytes(honest).signed
    far.version = 1_000_000
    path.write_bytes(sign(far, publisher.context.keys.signers["timestamp"]))
    device.run_to_rest(fetch)
    path.write_bytes(honest)
    publisher.publish("1.1.0", NEW)
    device.run(device.runner(fetch), lambda: "update.refused" in device.kinds)

    sign_next_root(
        publisher.folder,
        publisher.blobs,
        passphrase=PASSPHRASE,
        now=clock.now(),
        replace=frozenset({"timestamp", "snapshot"}),
    )
    context = load_updates_context(publisher.folder, publisher.blobs)
    assert metadata.refresh_due(publisher.db, context) == 1

    device.run_to_reboot(fetch)
    assert device.holds(Slot.B) == NEW


def test_endless_data_is_cut_off(publisher: Publisher, device: Device, fetch: HttpFetcher) -> None:
    publisher.publish("1.1.0", NEW)

    def endless(chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield from chunks
        while True:
            yield b"\0" * 65_536

    device.run(device.runner(bend_images(fetch, endless)), lambda: "update.refused" in device.kinds)
    assert "more" in device.error
    assert not (device.config.state_dir / "download.part").exists()


def test_endless_metadata_is_cut_off(device: Device, fetch: HttpFetcher) -> None:
    def bend(path: str, answer: Download) -> Download:
        if not path.endswith("timestamp.json"):
            return answer
        return Answer(200, {}, iter(lambda: b" " * 65_536, b""))

    device.run(device.runner(Bent(fetch, bend)), lambda: "update.refused" in device.kinds)
    assert "exceeding" in device.error


def test_metadata_of_another_model_offers_nothing(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    publisher.publish("9.0.0", NEW, model="camera-2")
    fetch.model = "camera-2"

    def crossed(path: str, *, offset: int = 0) -> AbstractContextManager[Download]:
        return fetch(path.replace(MODEL, "camera-2", 1), offset=offset)

    device.run_to_rest(crossed)
    assert fetch.images == []
    assert device.kinds == []


def test_a_tampered_slot_is_refused_told_and_filled_again(device: Device, fetch: HttpFetcher) -> None:
    device.run_to_rest(fetch)
    device.slots.image(Slot.A).write_bytes(b"evil firmware")

    start = device.boot()

    assert start.selection.chosen is None
    device.run_to_reboot(fetch)
    refused = [one for one in device.told if one.kind == "boot.refused"]
    assert refused[0].details["reason"] == "image_changed"
    assert device.holds(Slot.B) == OLD, "the release it should run was fetched again"
    healed = device.boot()
    assert healed.selection.chosen is not None
    assert healed.selection.is_trial
    runner = device.runner(fetch)
    runner.report_health(is_healthy=True)
    device.run(runner, lambda: "update.confirmed" in device.kinds)
    assert device.pointer is not None
    assert device.pointer.active is Slot.B
