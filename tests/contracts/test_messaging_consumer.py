"""What a durable consumer owes its process while what handles the messages stands still."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.js.api import StreamConfig

from fleetward.outside.nats.connection import NatsConnection, connect
from fleetward.outside.nats.consumer import MAX_BATCH, Delivery, DurableConsumer
from fleetward.outside.nats.dead_letters import DeadLetterBox
from support.broker import Rig

_ACK_WAIT_S = 1.0
_SENT = 20


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.start()
    yield rig
    rig.close()


class _Handling:
    """A handler that stands still until it may go, as when the database does not answer."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.batches: list[int] = []
        self.may_go = asyncio.Event()
        self._grown = asyncio.Condition()

    async def handle(self, batch: list[Delivery]) -> None:
        await self.may_go.wait()
        self.batches.append(len(batch))
        self.handled += [one.sequence for one in batch]
        async with self._grown:
            self._grown.notify_all()

    async def have_handled(self, count: int) -> None:
        async with asyncio.timeout(60), self._grown:
            await self._grown.wait_for(lambda: len(self.handled) >= count)


async def _consumer(
    rig: Rig, connection: NatsConnection, handling: _Handling, gather_s: float = 0.0
) -> DurableConsumer:
    js = connection.client.jetstream()
    await js.add_stream(StreamConfig(name="STILL", subjects=["still.>"]))
    consumer = DurableConsumer(
        connection,
        js,
        stream="STILL",
        name="still",
        subjects=("still.>",),
        handle=handling.handle,
        dead_letters=DeadLetterBox(connection, js, rig.clock, lambda *_: None),
        ack_wait_s=_ACK_WAIT_S,
        gather_s=gather_s,
    )
    await consumer.create()
    await consumer.start()
    for number in range(_SENT):
        await js.publish("still.x", b"%d" % number)
    return consumer


def test_what_waits_while_nothing_is_handled_is_held_once_and_handled_once(rig: Rig) -> None:
    """JetStream delivers again after each acknowledgement wait: that must not pile up in memory."""

    async def stand_still() -> tuple[int, list[int], int]:
        connection = await connect(rig.address, seed=rig.keys.platform, name="test")
        handling = _Handling()
        consumer = await _consumer(rig, connection, handling)
        running = asyncio.create_task(consumer.run())
        await asyncio.sleep(4.5 * _ACK_WAIT_S)
        held = consumer._queue.qsize()
        handling.may_go.set()
        js = connection.client.jetstream()
        await asyncio.sleep(2 * _ACK_WAIT_S)
        rest = (await js.consumer_info("STILL", "still")).num_ack_pending or 0
        running.cancel()
        await connection.close()
        return held, handling.handled, rest

    held, handled, rest = rig.loop.run(stand_still())
    assert held < _SENT
    assert sorted(handled) == list(range(1, _SENT + 1))
    assert rest == 0, "the first acknowledgement counts for what was delivered again"


@pytest.mark.parametrize(("gather_s", "in_one"), [(0.0, False), (0.7, True)])
def test_what_comes_within_the_time_is_gathered_into_one_batch(
    rig: Rig, gather_s: float, in_one: bool
) -> None:
    """A batch of one costs six times what a message of a full one does; each is acknowledged all the same."""

    async def send_one_by_one() -> tuple[_Handling, int]:
        connection = await connect(rig.address, seed=rig.keys.platform, name="test")
        handling = _Handling()
        handling.may_go.set()
        consumer = await _consumer(rig, connection, handling, gather_s)
        running = asyncio.create_task(consumer.run())
        js = connection.client.jetstream()
        for number in range(3):
            await asyncio.sleep(0.05)
            await js.publish("still.x", b"late %d" % number)
        await handling.have_handled(_SENT + 3)
        await asyncio.sleep(2 * _ACK_WAIT_S)
        left = (await js.consumer_info("STILL", "still")).num_ack_pending or 0
        running.cancel()
        await connection.close()
        return handling, left

    handling, left = rig.loop.run(send_one_by_one())
    assert (len(handling.batches) == 1) is in_one
    assert sorted(handling.handled) == list(range(1, _SENT + 4))
    assert left == 0


def test_a_full_batch_does_not_wait_for_the_time(rig: Rig) -> None:
    async def fill() -> list[int]:
        connection = await connect(rig.address, seed=rig.keys.platform, name="test")
        handling = _Handling()
        handling.may_go.set()
        consumer = await _consumer(rig, connection, handling, gather_s=3_600.0)
        running = asyncio.create_task(consumer.run())
        for _ in range(MAX_BATCH - _SENT):
            await connection.client.publish("still.x", b"more")
        await handling.have_handled(MAX_BATCH)
        running.cancel()
        await connection.close()
        return handling.batches

    assert rig.loop.run(fill()) == [MAX_BATCH]
