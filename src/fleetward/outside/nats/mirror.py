"""The admission records of all devices in memory, kept equal to the key-value bucket `admission`.

The callout answers from here, never from SQL. Updates arrive as plain messages on the bucket's subjects, in
the moment they are written; after a reconnection everything is read again: some may have been missed.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from fleetward.base.logging import get_logger
from fleetward.features.messaging.model import AdmissionRecord
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.streams import ADMISSION_BUCKET, kv_subject, read_stream

log = get_logger("admission")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AdmissionRecord).decode
_STREAM = f"KV_{ADMISSION_BUCKET}"
_ALL = kv_subject(ADMISSION_BUCKET, "*")
_MAX_WAITING = 2_000
_PUT_AT_ONCE = 500

Listener = Callable[[AdmissionRecord], None]


class AdmissionMirror:
    """Finds a device's record in memory, and writes records for all mirrors to see."""

    def __init__(self, connection: NatsConnection, js: JetStreamContext) -> None:
        self._connection = connection
        self._js = js
        self._records: dict[str, AdmissionRecord] = {}
        self._listeners: list[Listener] = []
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._waiting_count = 0

    def __len__(self) -> int:
        return len(self._records)

    async def start(self) -> None:
        """Read the bucket and follow it from now on."""
        await self._connection.follow(_ALL, self._on_message)
        await self.reload()
        self._connection.on_reconnect.append(self.reload)

    async def reload(self) -> None:
        """Read the whole bucket again."""
        async for message in read_stream(self._js, _STREAM, _ALL, only_last=True):
            self._apply(message.data)

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every record that changes."""
        self._listeners.append(listener)

    def find(self, device: str) -> AdmissionRecord | None:
        return self._records.get(device)

    async def wait_for_change(self, device: str, timeout_s: float) -> bool:
        """Return True once the device's record changes, False after `timeout_s` or when too many wait."""
        if self._waiting_count >= _MAX_WAITING:
            return False
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(device, []).append(changed)
        self._waiting_count += 1
        try:
            await asyncio.wait_for(changed, timeout_s)
        except TimeoutError:
            return False
        finally:
            self._waiting_count -= 1
            waiting = self._waiting.get(device, [])
            if changed in waiting:
                waiting.remove(changed)
            if not waiting:
                self._waiting.pop(device, None)
        return True

    async def put(self, record: AdmissionRecord) -> None:
        """Write a record; this mirror holds it at once, the others a moment later.

        Raises:
            nats.errors.Error: JetStream did not take it; the caller tries again.
        """
        content = _encode(record)
        self._apply(content)
        await self._js.publish(kv_subject(ADMISSION_BUCKET, record.device), content)

    async def replace_all(self, records: Iterable[AdmissionRecord]) -> int:
        """Write those records that differ from what the bucket holds; return how many were written."""
        changed = [one for one in records if not _says_the_same(self._records.get(one.device), one)]
        for start in range(0, len(changed), _PUT_AT_ONCE):
            await asyncio.gather(*map(self.put, changed[start : start + _PUT_AT_ONCE]))
        return len(changed)

    async def _on_message(self, message: Msg) -> None:
        self._apply(message.data)

    def _apply(self, content: bytes) -> None:
        try:
            record = _decode(content)
        except msgspec.MsgspecError as error:
            log.warning("admission_record_unreadable", reason=str(error))
            return
        known = self._records.get(record.device)
        if known == record or (known is not None and known.version > record.version):
            return
        self._records[record.device] = record
        for changed in self._waiting.pop(record.device, []):
            if not changed.done():
                changed.set_result(None)
        for listener in self._listeners:
            listener(record)


def _says_the_same(known: AdmissionRecord | None, record: AdmissionRecord) -> bool:
    return known is not None and replace(known, version=record.version) == record
