"""The bucket `admission` against a real nats-server: it ends as the database does, whoever writes."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from nats.js import JetStreamContext

from fleetward.features.devices.model import DeviceState
from fleetward.features.messaging.model import AdmissionRecord
from fleetward.outside.nats.connection import NatsConnection, connect
from fleetward.outside.nats.mirror import AdmissionMirror
from fleetward.outside.nats.server import NatsServerChild
from fleetward.outside.nats.streams import Retention, ensure_streams, kv_subject, read_stream
from support.broker import Rig, wait_for

_MIB = 1024**2
_RETENTION = Retention(max_bytes=50 * _MIB, max_mqtt_bytes=16 * _MIB)
SEED = 20260601
ACTIVE = AdmissionRecord("cam-1", 5, DeviceState.ACTIVE, requires_appraisal=False)
REVOKED = replace(ACTIVE, version=7, state=DeviceState.REVOKED)


@dataclass
class Bucket:
    """A broker of its own, and the mirrors of two processes."""

    connections: list[NatsConnection]
    mirrors: list[AdmissionMirror]

    async def started_later(self) -> AdmissionMirror:
        """Return the mirror of a process that starts now."""
        mirror = AdmissionMirror(self.connections[0], self.js)
        await mirror.start()
        return mirror

    @property
    def js(self) -> JetStreamContext:
        return self.connections[0].client.jetstream()

    async def stored(self) -> dict[str, AdmissionRecord]:
        subject = kv_subject("admission", "*")
        found = [
            msgspec.json.decode(message.data, type=AdmissionRecord)
            async for message in read_stream(self.js, "KV_admission", subject, only_last=True)
        ]
        return {record.device: record for record in found}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


@pytest.fixture
def bucket(rig: Rig) -> Iterator[Bucket]:
    child = NatsServerChild(rig.broker, rig.keys, on_line=lambda _line: None, on_restart=lambda _status: None)

    async def start() -> Bucket:
        await child.start()
        connections = [await connect(rig.address, seed=rig.keys.platform, name="test") for _ in range(2)]
        js = connections[0].client.jetstream()
        await ensure_streams(js, replicas=1, retention=_RETENTION)
        mirrors = [AdmissionMirror(one, one.client.jetstream()) for one in connections]
        for mirror in mirrors:
            await mirror.start()
        return Bucket(connections, mirrors)

    started = rig.loop.run(start())

    async def stop() -> None:
        for connection in started.connections:
            await connection.close()
        await child.stop()

    yield started
    rig.loop.run(stop())


async def draw_active(_devices: Sequence[str]) -> list[AdmissionRecord]:
    return [ACTIVE]


async def draw_revoked(_devices: Sequence[str]) -> list[AdmissionRecord]:
    return [REVOKED]


def test_a_record_read_before_a_revocation_is_not_written_after_it(rig: Rig, bucket: Bucket) -> None:
    """The rebuild reads a page, the device is revoked, the rebuild writes; a process starts later."""

    async def interleave() -> tuple[list[str], AdmissionRecord | None]:
        first, second = bucket.mirrors
        await first.change(["cam-1"], draw_active)
        mark = second.mark()
        page = [replace(ACTIVE, version=6, revoked_serials=frozenset({"aa"}))]
        await first.change(["cam-1"], draw_revoked)
        again = await second.write(page, mark, only_changed=True)
        return again, (await bucket.started_later()).find("cam-1")

    again, found = rig.loop.run(interleave())
    assert again == ["cam-1"]
    assert found == REVOKED


def test_a_record_of_the_same_version_does_not_overwrite_one_read_later(rig: Rig, bucket: Bucket) -> None:
    """PostgreSQL gives event numbers before it commits: of one version there can be two truths."""

    async def interleave() -> list[AdmissionRecord | None]:
        first, second = bucket.mirrors
        await first.change(["cam-1"], draw_active)
        mark = second.mark()
        await first.change(["cam-1"], draw_revoked)
        again = await second.write([replace(ACTIVE, version=7)], mark)
        await second.change(again, draw_revoked)
        later = await bucket.started_later()
        return [mirror.find("cam-1") for mirror in (first, second, later)]

    assert rig.loop.run(interleave()) == [REVOKED] * 3


def test_a_worker_that_hears_nothing_of_the_other_overwrites_nothing(rig: Rig, bucket: Bucket) -> None:
    async def interleave() -> tuple[list[str], AdmissionRecord | None]:
        first, second = bucket.mirrors
        for consumer in await bucket.js.consumers_info("KV_admission"):
            await bucket.js.delete_consumer("KV_admission", consumer.name)
        await first.change(["cam-1"], draw_revoked)
        again = await second.write([ACTIVE], second.mark())
        return again, (await bucket.started_later()).find("cam-1")

    assert rig.loop.run(interleave()) == (["cam-1"], REVOKED)


def test_a_change_that_was_taken_back_still_stops_a_writer_who_saw_it(rig: Rig, bucket: Bucket) -> None:
    """Quarantined, let out, quarantined: he who read in between must not let it out in the end."""

    async def interleave() -> AdmissionRecord | None:
        first, second = bucket.mirrors
        await first.change(["cam-1"], draw_revoked)
        mark = second.mark()  # reads ACTIVE now, and is slow
        await first.change(["cam-1"], draw_revoked)
        assert await second.write([ACTIVE], mark) == ["cam-1"]
        return (await bucket.started_later()).find("cam-1")

    assert rig.loop.run(interleave()) == REVOKED


def test_what_the_bucket_says_already_is_not_written_again(rig: Rig, bucket: Bucket) -> None:
    async def write_twice() -> tuple[int, int]:
        first, _ = bucket.mirrors
        await first.change(["cam-1"], draw_active)
        before = (await bucket.js.stream_info("KV_admission")).state.last_seq
        assert await first.write([replace(ACTIVE, version=9)], first.mark(), only_changed=True) == []
        return before, (await bucket.js.stream_info("KV_admission")).state.last_seq

    before, after = rig.loop.run(write_twice())
    assert before == after


def test_an_unreadable_record_is_written_over(rig: Rig, bucket: Bucket) -> None:
    async def write_over() -> AdmissionRecord | None:
        await bucket.js.publish(kv_subject("admission", "cam-1"), b"\x00 of a later release")
        await bucket.mirrors[0].change(["cam-1"], draw_active)
        return (await bucket.stored()).get("cam-1")

    assert rig.loop.run(write_over()) == ACTIVE


def test_a_record_of_the_release_before_is_read(rig: Rig, bucket: Bucket) -> None:
    old = {
        "device": "cam-1", "version": 5, "state": "active", "requires_appraisal": False,
        "is_appraisal_good": False, "appraisal_expires_at": None,
        "live_serials": ["aa"], "revoked_serials": [],
    }  # fmt: skip

    async def read() -> AdmissionRecord | None:
        await bucket.js.publish(kv_subject("admission", "cam-1"), msgspec.json.encode(old))
        return (await bucket.started_later()).find("cam-1")

    assert rig.loop.run(read()) == replace(ACTIVE, live_serials=frozenset({"aa"}))


def test_a_mirror_that_is_no_longer_told_reads_the_bucket_again(rig: Rig, bucket: Bucket) -> None:
    stale = replace(ACTIVE, version=99)
    first, second = bucket.mirrors

    async def lose() -> asyncio.Task[None]:
        for consumer in await bucket.js.consumers_info("KV_admission"):
            await bucket.js.delete_consumer("KV_admission", consumer.name)
        await first.change(["cam-1"], draw_revoked)
        second._values["cam-1"] = stale
        return asyncio.create_task(second.watch())

    async def end(watching: asyncio.Task[None]) -> None:
        watching.cancel()

    watching = rig.loop.run(lose())
    wait_for(lambda: second.find("cam-1") == REVOKED)
    rig.loop.run(end(watching))


class Registry:
    """What a database would say: each change has an event, and a snapshot sees all before it."""

    def __init__(self, devices: int) -> None:
        self.states = {f"cam-{number}": DeviceState.ACTIVE for number in range(devices)}
        self.version = 0

    def change(self, device: str, state: DeviceState) -> None:
        self.states[device] = state
        self.version += 1

    def snapshot(self, devices: Sequence[str]) -> list[AdmissionRecord]:
        # As PostgreSQL would: a version may have been seen by an earlier snapshot that lacks its change.
        version = self.version // 3
        return [AdmissionRecord(one, version, self.states[one], requires_appraisal=False) for one in devices]


class Play:
    """Changes of a registry, their handling by either worker, pages of rebuilds: interleaved by chance."""

    def __init__(self, bucket: Bucket, seed: int) -> None:
        self.chance = random.Random(seed)
        self.mirrors = bucket.mirrors
        self.registry = Registry(devices=5)
        self.devices = sorted(self.registry.states)

    async def run(self, steps: int) -> None:
        async with asyncio.TaskGroup() as work:
            for _ in range(steps):
                mirror = self.chance.choice(self.mirrors)
                if self.chance.random() < 0.25:
                    work.create_task(self.rebuild(mirror))
                else:
                    work.create_task(self.handle(mirror, self.change()))
                await self.pause()

    def change(self) -> str:
        device = self.chance.choice(self.devices)
        self.registry.change(device, self.chance.choice((DeviceState.ACTIVE, DeviceState.QUARANTINED)))
        return device

    async def handle(self, mirror: AdmissionMirror, device: str) -> None:
        await self.pause()
        await mirror.change([device], self.draw)

    async def rebuild(self, mirror: AdmissionMirror) -> None:
        for start in (0, 3):
            mark = mirror.mark()
            page = await self.draw(self.devices[start : start + 3])
            await mirror.change(await mirror.write(page, mark, only_changed=True), self.draw)
            await self.pause()

    async def draw(self, wanted: Sequence[str]) -> list[AdmissionRecord]:
        await self.pause()
        records = self.registry.snapshot(wanted)
        await self.pause()
        return records

    async def pause(self) -> None:
        await asyncio.sleep(self.chance.choice((0, 0, 0.0005, 0.002, 0.005)))


@pytest.mark.parametrize("seed", range(SEED, SEED + 6))
def test_two_workers_and_rebuilds_end_with_what_the_database_says(
    rig: Rig, bucket: Bucket, seed: int
) -> None:
    play = Play(bucket, seed)
    rig.loop.run(play.run(steps=60))
    stored = rig.loop.run(bucket.stored())
    assert {one.device: one.state for one in stored.values()} == {
        device: play.registry.states[device] for device in stored
    }
    first, second = bucket.mirrors
    wait_for(lambda: {one.device: one for one in first.values()} == stored)
    wait_for(lambda: {one.device: one for one in second.values()} == stored)
