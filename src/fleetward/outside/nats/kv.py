"""A key-value bucket mirrored in memory.

Updates arrive as plain messages on the bucket's subjects, in the moment they are written; after a
reconnection everything is read again, because some may have been missed. Nothing of ours is ever deleted from
a bucket.

Each value is written over the one whose sequence its writer knows, and over no other: where another process
was quicker, the writer reads what that one wrote, and only a value that is not older takes its place.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

import msgspec
import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from fleetward.base.logging import get_logger
from fleetward.outside.nats.batch import BatchPublisher, Outgoing
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.streams import kv_subject, read_stream, sequence_of

log = get_logger("nats")

_MAX_ATTEMPTS = 50
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_WRONG_LAST_SEQUENCE = 10071


class _AckError(msgspec.Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct, frozen=True):
    seq: int = 0
    error: _AckError | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


class _OfDevice(Protocol):
    @property
    def device(self) -> str: ...


V = TypeVar("V", bound=_OfDevice)


class BucketMirror(Generic[V]):
    """The value of each device, found in memory and written for all mirrors to see."""

    def __init__(
        self,
        connection: NatsConnection,
        js: JetStreamContext,
        *,
        bucket: str,
        kind: type[V],
        is_older: Callable[[V, V], bool],
    ) -> None:
        """Prepare a mirror.

        Args:
            is_older: whether a found value (first) is older than the known one (second) and to be ignored.
        """
        self._connection = connection
        self._js = js
        self._bucket = bucket
        self._is_older = is_older
        self._publisher = BatchPublisher(connection)
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(kind).decode
        self._values: dict[str, V] = {}
        self._sequences: dict[str, int] = {}
        self._listeners: list[Callable[[V, V | None], None]] = []

    def __len__(self) -> int:
        return len(self._values)

    async def start(self) -> None:
        """Read the bucket and follow it from now on."""
        await self._publisher.start()
        await self._connection.follow(kv_subject(self._bucket, "*"), self._on_message)
        await self.reload()
        self._connection.on_reconnect.append(self.reload)

    async def reload(self) -> None:
        """Read the whole bucket again."""
        self._sequences.clear()
        subject = kv_subject(self._bucket, "*")
        async for message in read_stream(self._js, f"KV_{self._bucket}", subject, only_last=True):
            await self._on_stored(message)

    def listen(self, listener: Callable[[V, V | None], None]) -> None:
        """Call `listener` with every value that changes, and what was known before."""
        self._listeners.append(listener)

    def find(self, device: str) -> V | None:
        return self._values.get(device)

    def values(self) -> list[V]:
        return list(self._values.values())

    async def put_all(self, values: Iterable[V]) -> None:
        """Write values, each of another device; this mirror holds them at once, the others soon.

        A value that is older than the known one, or than the stored one, is left out; written again after a
        failure, it is not.

        Raises:
            nats.errors.Error: JetStream did not take them all; the caller tries again.
        """
        left = list(values)
        for _ in range(_MAX_ATTEMPTS):
            left = [one for one in left if not self._is_outdated(one)]
            for value in left:
                self._hold(value)
            lost = await self._put_over([(one, self._sequences.get(one.device, 0)) for one in left])
            if not lost:
                return
            await asyncio.gather(*(self._read_again(device) for device in lost))
            left = [one for one in left if one.device in lost]
        raise nats.errors.Error(f"{self._bucket}: {len(left)} values are written by others all the time")

    async def purge(self) -> None:
        """Empty the bucket and this mirror; mirrors of other processes hold theirs until they restart."""
        await self._js.purge_stream(f"KV_{self._bucket}")
        self._values.clear()
        self._sequences.clear()

    async def _put_over(self, writing: list[tuple[V, int]]) -> set[str]:
        """Write each value over the one with this sequence, 0 for none; return whose was another."""
        answers = await self._publisher.ask(
            Outgoing(
                kv_subject(self._bucket, value.device),
                self._encode(value),
                {_EXPECTED: str(expected)},
            )
            for value, expected in writing
        )
        lost: set[str] = set()
        for (value, _), answer in zip(writing, answers, strict=True):
            ack = _decode_ack(answer) if answer else _Ack(error=_AckError(description="nobody there"))
            if ack.error is None:
                self._note_stored(value.device, value, ack.seq)
            elif ack.error.err_code == _WRONG_LAST_SEQUENCE:
                lost.add(value.device)
            else:
                raise nats.errors.Error(f"publish refused: {ack.error.description[:200]}")
        return lost

    async def _read_again(self, device: str) -> None:
        """Ask the stream's leader what it holds of a device: we may not have heard of it yet."""
        try:
            found = await self._js.get_last_msg(f"KV_{self._bucket}", kv_subject(self._bucket, device))
        except NotFoundError:
            self._sequences.pop(device, None)
            return
        self._note_stored(device, self._read(found.data or b""), found.seq or 0)

    async def _on_stored(self, message: Msg) -> None:
        device = message.subject.rpartition(".")[2]
        self._note_stored(device, self._read(message.data), sequence_of(message))

    def _note_stored(self, device: str, value: V | None, sequence: int) -> None:
        """Hold what the bucket says of a device, unless more recent is known; None where it is unreadable."""
        if sequence <= self._sequences.get(device, 0):
            return
        self._sequences[device] = sequence
        if value is not None and not self._is_outdated(value):
            self._hold(value)

    async def _on_message(self, message: Msg) -> None:
        value = self._read(message.data)
        if value is None:
            return
        if not self._is_outdated(value):
            self._hold(value)

    def _is_outdated(self, value: V) -> bool:
        known = self._values.get(value.device)
        return known is not None and self._is_older(value, known)

    def _read(self, content: bytes) -> V | None:
        try:
            return self._decode(content)
        except msgspec.MsgspecError as error:
            log.warning("bucket_value_unreadable", bucket=self._bucket, reason=str(error))
            return None

    def _hold(self, value: V) -> None:
        known = self._values.get(value.device)
        self._values[value.device] = value
        if known == value:
            return
        for listener in self._listeners:
            listener(value, known)
