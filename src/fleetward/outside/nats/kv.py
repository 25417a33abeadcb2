"""A key-value bucket mirrored in memory.

Updates arrive as plain messages on the bucket's subjects, in the moment they are written; after a
reconnection everything is read again, because some may have been missed. Nothing of ours is ever deleted from
a bucket.
"""

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from fleetward.base.logging import get_logger
from fleetward.outside.nats.batch import BatchPublisher, Outgoing
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.streams import kv_subject, read_stream

log = get_logger("nats")


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
        subject = kv_subject(self._bucket, "*")
        async for message in read_stream(self._js, f"KV_{self._bucket}", subject, only_last=True):
            await self._on_message(message)

    def listen(self, listener: Callable[[V, V | None], None]) -> None:
        """Call `listener` with every value that changes, and what was known before."""
        self._listeners.append(listener)

    def find(self, device: str) -> V | None:
        return self._values.get(device)

    def values(self) -> list[V]:
        return list(self._values.values())

    async def put_all(self, values: Iterable[V]) -> None:
        """Write values, each of another device; this mirror holds them at once, the others soon.

        A value that is older than the known one is left out; written again after a failure, it is not.

        Raises:
            nats.errors.Error: JetStream did not take them all; the caller tries again.
        """
        taken = [one for one in values if not self._is_outdated(one)]
        for value in taken:
            self._hold(value)
        await self._publisher.publish(
            Outgoing(kv_subject(self._bucket, one.device), self._encode(one), None) for one in taken
        )

    async def purge(self) -> None:
        """Empty the bucket and this mirror; mirrors of other processes hold theirs until they restart."""
        await self._js.purge_stream(f"KV_{self._bucket}")
        self._values.clear()

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
