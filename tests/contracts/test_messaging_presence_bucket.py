"""The bucket `presence` against a real nats-server: its last word is the newest, whoever writes last."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from nats.js import JetStreamContext

from fleetward.features.messaging.model import Presence
from fleetward.outside.nats.connection import NatsConnection, connect
from fleetward.outside.nats.presence import PresenceMirror
from fleetward.outside.nats.server import NatsServerChild
from fleetward.outside.nats.streams import Retention, ensure_streams, kv_subject, read_stream
from support.broker import Rig

_MIB = 1024**2
_RETENTION = Retention(max_bytes=50 * _MIB, max_mqtt_bytes=16 * _MIB)
GONE = Presence("cam-1", since="2026-06-01T12:00:00Z", reason="its network failed", connection="S:1")
BACK = Presence("cam-1", is_connected=True, since="2026-06-01T12:00:01Z", connection="S:2")
SAME_TIME = Presence("cam-1", since=BACK.since, reason="it hung up", connection="S:2")


@dataclass
class Bucket:
    """A broker of its own, and the mirrors of two workers."""

    connections: list[NatsConnection]
    mirrors: list[PresenceMirror]

    @property
    def js(self) -> JetStreamContext:
        return self.connections[0].client.jetstream()

    async def stored(self) -> list[Presence]:
        subject = kv_subject("presence", "*")
        return [
            msgspec.json.decode(message.data, type=Presence)
            async for message in read_stream(self.js, "KV_presence", subject, only_last=True)
        ]

    def make_deaf(self, mirror: PresenceMirror) -> None:
        """Put a mirror back to before it heard what the other wrote a moment ago."""
        mirror._values.clear()
        mirror._sequences.clear()


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
        await ensure_streams(connections[0].client.jetstream(), replicas=1, retention=_RETENTION)
        mirrors = [PresenceMirror(one, one.client.jetstream()) for one in connections]
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


def test_a_slow_worker_leaves_no_older_value_behind(rig: Rig, bucket: Bucket) -> None:
    """One worker has the device's end, the other its return; the end is written last."""

    async def interleave() -> list[Presence]:
        slow, quick = bucket.mirrors
        await quick.put_all([BACK])
        bucket.make_deaf(slow)
        await slow.put_all([GONE])
        assert slow.find("cam-1") == BACK
        return await bucket.stored()

    assert rig.loop.run(interleave()) == [BACK]


@pytest.mark.parametrize(
    ("first", "second"), [(GONE, BACK), (BACK, SAME_TIME)], ids=["newer", "of the same time"]
)
def test_a_worker_that_has_not_heard_of_the_other_still_writes_what_is_not_older(
    rig: Rig, bucket: Bucket, first: Presence, second: Presence
) -> None:
    async def interleave() -> list[Presence]:
        quick, slow = bucket.mirrors
        await quick.put_all([first, Presence("cam-2", since=first.since)])
        bucket.make_deaf(slow)
        await slow.put_all([second, Presence("cam-3", since=first.since)])
        assert slow.find("cam-1") == second
        return await bucket.stored()

    stored = {one.device: one for one in rig.loop.run(interleave())}
    assert stored["cam-1"] == second
    assert stored.keys() == {"cam-1", "cam-2", "cam-3"}


def test_two_workers_that_take_turns_end_with_the_newest(rig: Rig, bucket: Bucket) -> None:
    times = [f"2026-06-01T12:00:{second:02}Z" for second in range(40)]

    async def write_every_second(mirror: PresenceMirror, begin: int) -> None:
        for time in times[begin::2]:
            await mirror.put_all([Presence("cam-1", is_connected=True, since=time, connection=f"S:{time}")])

    async def play() -> list[Presence]:
        await asyncio.gather(*(write_every_second(one, at) for at, one in enumerate(bucket.mirrors)))
        return await bucket.stored()

    (last,) = rig.loop.run(play())
    assert last.since == times[-1]


def test_a_bucket_that_was_emptied_is_filled_again(rig: Rig, bucket: Bucket) -> None:
    async def play() -> list[Presence]:
        first, second = bucket.mirrors
        await first.put_all([GONE])
        await bucket.js.purge_stream("KV_presence")
        await first.put_all([BACK])  # it still counts on the value that is gone
        await second.purge()
        await second.put_all([BACK])
        return await bucket.stored()

    assert rig.loop.run(play()) == [BACK]
