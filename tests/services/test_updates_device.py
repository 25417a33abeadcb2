"""A device's whole way through an update, against the real repository over real HTTP."""

import os
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from fleetward.base.errors import UnavailableError
from fleetward.features.updates import service
from fleetward.features.updates.boot.pointer import TRIES, Slot
from fleetward.features.updates.device.messages import SlotsReport
from fleetward.features.updates.ports import Download
from support.clock import ManualClock
from support.update_device import NEW, Answer, Bent, Device, HttpFetcher, UpdateRig, bend_images, update_rig
from support.updates import MODEL, Publisher


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


def test_a_release_goes_from_publication_to_confirmation(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    publisher.publish("1.1.0", NEW)

    device.run_to_reboot(fetch)

    assert device.counter.read_counter() == 1, "the factory's release was confirmed by running"
    assert device.pointer is not None
    assert device.pointer.trial is not None
    assert device.holds(Slot.B) == NEW
    start = device.boot()
    assert start.selection.is_trial
    assert start.is_on_trial()
    runner = device.runner(fetch)
    device.run(runner, lambda: runner.is_on_trial)
    assert device.reports[-1].slots == SlotsReport(
        running=Slot.B, confirmed=Slot.A, trial=Slot.B, tries_left=TRIES - 1,
        versions={Slot.A: "1.0.0", Slot.B: "1.1.0"},
    )  # fmt: skip
    assert device.counter.read_counter() == 1, "a trial must not move the counter"

    runner.report_health(is_healthy=True)
    device.run(runner, lambda: "update.confirmed" in device.kinds)

    assert device.counter.read_counter() == 2
    assert device.pointer.active is Slot.B
    assert not start.is_on_trial()
    assert not (device.config.state_dir / "download.part").exists()
    again = device.boot()
    assert again.selection.chosen is not None
    assert again.selection.chosen.manifest.version == "1.1.0"
    device.run_to_rest(fetch)
    assert fetch.images == [0], "nothing is downloaded twice"
    assert device.kinds == ["update.installed", "update.confirmed"]


def test_agents_of_the_release_before_find_the_current_manifest(
    publisher: Publisher, fetch: HttpFetcher, tmp_path: Path, clock: ManualClock
) -> None:
    """They ask for the name without a channel; python-tuf's own client asks here as they do."""
    release = publisher.publish("1.1.0", NEW)
    metadata, targets = f"/v1/tuf/{MODEL}/metadata/", f"/v1/tuf/{MODEL}/targets/"

    class Fetcher(FetcherInterface):
        def _fetch(self, url: str) -> Iterator[bytes]:
            with fetch(url) as answer:
                if answer.status != 200:
                    raise DownloadHTTPError("not found", answer.status)
                yield from answer.chunks

    updater = Updater(
        str(tmp_path / "tuf"), metadata, str(tmp_path), targets, fetcher=Fetcher(), bootstrap=publisher.root
    )
    updater._trusted_set.reference_time = clock.now()
    found = updater.get_targetinfo(f"{MODEL}/manifest.dsse.json")
    assert found is not None
    assert Path(updater.download_target(found)).read_bytes() == release.manifest


def test_the_agent_asks_platforms_of_the_release_before_by_the_name_they_serve(
    device: Device, fetch: HttpFetcher
) -> None:
    device.run_to_rest(fetch)
    [asked] = [path for path, _ in fetch.asked if path.endswith(".manifest.dsse.json")]
    assert re.fullmatch(rf"/v1/tuf/{MODEL}/targets/{MODEL}/[0-9a-f]{{64}}\.manifest\.dsse\.json", asked)


@pytest.mark.parametrize("how", ["unhealthy", "silent", "crashing"])
def test_a_bad_release_is_rolled_back_and_never_tried_again(
    publisher: Publisher, device: Device, fetch: HttpFetcher, how: str
) -> None:
    publisher.publish("1.1.0", NEW)
    device.run_to_reboot(fetch)
    if how == "crashing":
        for _ in range(TRIES):
            assert device.boot().selection.is_trial
    else:
        device.boot()
        runner = device.runner(fetch)
        if how == "unhealthy":
            runner.report_health(is_healthy=False, reason="the lens does not answer")
        device.run(runner, lambda: len(device.reboots) == 2)

    back = device.boot()

    assert back.selection.chosen is not None
    assert back.selection.chosen.manifest.version == "1.0.0"
    device.run_to_rest(fetch)
    assert "update.rolled_back" in device.kinds
    assert device.counter.read_counter() == 1
    for _ in range(3):
        device.run_to_rest(fetch)
    assert fetch.images == [0]
    assert device.kinds.count("update.rolled_back") == 1

    publisher.publish("1.2.0", NEW + b"mended")
    device.run_to_reboot(fetch)
    device.boot()
    runner = device.runner(fetch)
    runner.report_health(is_healthy=True)
    device.run(runner, lambda: "update.confirmed" in device.kinds)
    assert device.counter.read_counter() == 3


def test_a_broken_download_goes_on_where_it_stopped(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    publisher.publish("1.1.0", NEW)

    def cut(chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield from islice(chunks, 3)
        raise UnavailableError("connection: planted break")

    device.run_to_reboot(bend_images(fetch, cut))

    assert fetch.images[0] == 0
    assert len(fetch.images) > 2
    assert fetch.images == sorted(set(fetch.images))
    assert device.holds(Slot.B) == NEW
    assert device.kinds == ["update.installed"], "a broken connection is no event"


def test_a_download_that_ends_early_goes_on(publisher: Publisher, device: Device, fetch: HttpFetcher) -> None:
    publisher.publish("1.1.0", NEW)
    device.run_to_reboot(bend_images(fetch, lambda chunks: islice(chunks, 4)))
    assert device.holds(Slot.B) == NEW


def test_a_server_without_ranges_is_fetched_from_the_start(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    publisher.publish("1.1.0", NEW)
    part = device.config.state_dir / "download.part"

    def forget_range(path: str, answer: Download) -> Download:
        if not path.endswith(".image"):
            return answer
        part.exists()
        return Answer(200, {}, iter([NEW]))

    cut = bend_images(fetch, lambda chunks: islice(chunks, 4))
    runner = device.runner(cut)
    device.run(runner, lambda: part.exists() and device.state == "idle")
    assert 0 < part.stat().st_size < len(NEW)
    device.run_to_reboot(Bent(fetch, forget_range))
    assert device.holds(Slot.B) == NEW


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Have every file of this process end at `size` bytes, as a full disk would end it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_freed_and_tried_again(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    publisher.publish("1.1.0", NEW)
    with limited_file_size(300_000):
        device.run(device.runner(fetch), lambda: "update.failed" in device.kinds)
    assert "room" in device.error
    assert not (device.config.state_dir / "download.part").exists()
    assert device.holds(Slot.B) is None

    device.run_to_reboot(fetch)
    assert device.holds(Slot.B) == NEW


def test_too_little_room_is_seen_before_the_download(
    publisher: Publisher, device: Device, fetch: HttpFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish("1.1.0", NEW)
    real = os.statvfs(device.config.state_dir)
    small = os.statvfs_result((*real[:4], 1, *real[5:]))
    with monkeypatch.context() as patched:
        patched.setattr("fleetward.outside.tuf.download.os.statvfs", lambda _path: small)
        device.run(device.runner(fetch), lambda: "update.failed" in device.kinds)
    assert fetch.images == []


def test_a_slot_that_cannot_be_written_leaves_the_running_one(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    publisher.publish("1.1.0", NEW)
    runner = device.runner(fetch)
    device.run(runner, lambda: device.state == "verifying")
    with limited_file_size(400_000):
        device.run(runner, lambda: "update.failed" in device.kinds)
    start = device.boot()
    assert start.selection.chosen is not None
    assert start.selection.chosen.manifest.version == "1.0.0"
    device.run_to_reboot(fetch)
    assert device.holds(Slot.B) == NEW


def test_state_that_cannot_be_saved_stops_the_update_until_it_can(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    publisher.publish("1.1.0", NEW)
    with limited_file_size(10):
        device.run(device.runner(fetch), lambda: device.reports != [] and device.state == "blocked")
    device.run_to_reboot(fetch)


def test_a_device_that_has_nothing_to_check_rests(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    device.run_to_rest(fetch)
    assert device.error == ""
    service.withdraw(publisher.db, publisher.context, "operator:test", MODEL, "1.0.0", "test")
    device.run_to_rest(fetch)
    assert device.error == ""


def test_a_model_without_releases_is_no_trouble(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    shutil.rmtree(publisher.folder / "blobs" / "tuf" / MODEL)
    device.run_to_rest(fetch)
    assert device.error == ""


def test_a_withdrawn_release_is_not_finished(
    publisher: Publisher, device: Device, fetch: HttpFetcher
) -> None:
    publisher.publish("1.1.0", NEW)
    part = device.config.state_dir / "download.part"
    cut = bend_images(fetch, lambda chunks: islice(chunks, 2))
    device.run(device.runner(cut), lambda: part.exists() and device.state == "idle")
    service.withdraw(publisher.db, publisher.context, "operator:test", MODEL, "1.1.0", "test")

    fetcher = bend_images(fetch, lambda _chunks: iter(()))
    device.run_to_rest(fetcher)
    device.run_to_rest(fetcher)

    assert device.holds(Slot.B) is None


def test_damaged_memory_is_forgotten_safely(publisher: Publisher, device: Device, fetch: HttpFetcher) -> None:
    publisher.publish("1.1.0", NEW)
    cut = bend_images(fetch, lambda chunks: islice(chunks, 2))
    device.run(device.runner(cut), (device.config.state_dir / "download.part").exists)
    (device.config.state_dir / "update.json").write_bytes(b"\xff\x00")
    device.run_to_reboot(fetch)
    assert device.holds(Slot.B) == NEW


def test_the_platform_can_ask_for_a_check(publisher: Publisher, device: Device, fetch: HttpFetcher) -> None:
    runner = device.runner(fetch)
    device.run(runner, lambda: device.reports != [] and device.state == "checking")
    device.run(runner, lambda: device.state == "idle")
    publisher.publish("1.1.0", NEW)
    before = device.seconds
    runner.check_now()
    device.run(runner, lambda: device.state == "downloading")
    assert device.seconds == before
    runner.close()


def test_an_agent_without_a_boot_stage_does_not_update(device: Device, fetch: HttpFetcher) -> None:
    (device.config.state_dir / "boot.json").unlink()
    with pytest.raises(Exception, match="boot"):
        device.runner(fetch)
