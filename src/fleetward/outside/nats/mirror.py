"""The admission records of all devices in memory: the callout answers from here, never from SQL.

Rules, so that every bucket and every mirror ends with what the database says last, whoever writes:
1. The bucket's own sequence orders records, nothing else does. A mirror follows the bucket's stream.
2. A writer notes the sequences it knows (`mark`), then reads the database, then writes each record only over
   the one it had noted. Where another was quicker it reads the database again. So of two records in the
   bucket the later one was also read later.
3. Whoever answers a change writes even what is already there: a writer that read before the change, and is
   slow, then finds another sequence than it had noted.
Mirrors also hear each record as it is being written, before it is stored: one that has seen more of the
registry than the one they hold is taken at once. Whatever was taken early gives way to what the bucket says.
Why so: docs/decisions/0013-the-bucket-orders-admission-records.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

from fleetward.base.logging import get_logger
from fleetward.features.messaging.model import AdmissionRecord
from fleetward.outside.nats.connection import NatsConnection, retry
from fleetward.outside.nats.kv import BucketMirror
from fleetward.outside.nats.streams import (
    ADMISSION_BUCKET,
    follow_stream,
    kv_subject,
    read_stream,
)

log = get_logger("nats")

_MAX_WAITING = 2_000
_AT_ONCE = 500
_MAX_ATTEMPTS = 50
_PAUSE_S = 0.005
_CHECK_EVERY_S = 2.0
_STREAM = f"KV_{ADMISSION_BUCKET}"

Draw = Callable[[Sequence[str]], Awaitable[Sequence[AdmissionRecord]]]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a mirror knew of the bucket before the database was read.

    Attributes:
        reading: how often the bucket was read from the beginning: its sequences may have begun anew.
        sequence: the highest known.
    """

    reading: int
    sequence: int


class AdmissionMirror(BucketMirror[AdmissionRecord]):
    """Finds a device's record, lets a caller wait for it to change, and writes it over no later one."""

    def __init__(self, connection: NatsConnection, js: JetStreamContext) -> None:
        super().__init__(
            connection,
            js,
            bucket=ADMISSION_BUCKET,
            kind=AdmissionRecord,
            is_older=lambda found, known: found.version <= known.version,
        )
        self._unstored: set[str] = set()
        self._highest = 0
        self._reading = 0
        self._following: Subscription | None = None
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._waiting_count = 0
        self.listen(self._wake)

    async def reload(self) -> None:
        """Read the whole bucket again, and follow it from there."""
        if self._following is not None:
            await self._following.unsubscribe()
        self._sequences.clear()
        self._reading += 1
        self._highest = (await self._js.stream_info(_STREAM)).state.last_seq
        self._following = await follow_stream(
            self._connection, self._js, _STREAM, self._on_stored, after=self._highest
        )
        subject = kv_subject(self._bucket, "*")
        async for message in read_stream(self._js, _STREAM, subject, only_last=True):
            await self._on_stored(message)

    async def wait_for_change(self, device: str, timeout_s: float) -> bool:
        """Return True once the device's record changes, False after `timeout_s` or when too many wait."""
        if self._waiting_count >= _MAX_WAITING:
            return False
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(device, []).append(changed)
        self._waiting_count += 1
        try:
            async with asyncio.timeout(timeout_s):
                await changed
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

    def mark(self) -> Mark:
        """Return what is known of the bucket now; take it before the database is read."""
        return Mark(self._reading, self._highest)

    async def change(self, devices: Iterable[str], draw: Draw) -> None:
        """Write the records of devices whose admission changed, as `draw` reads them.

        Args:
            draw: returns the records of these devices from the database; called again for those whose record
                somebody else has written meanwhile.

        Raises:
            nats.errors.Error: JetStream did not take them all; the caller tries again.
        """
        left = list(devices)
        for attempt in range(_MAX_ATTEMPTS):
            mark = self.mark()
            left = await self.write(await draw(left), mark)
            if not left:
                return
            await asyncio.sleep(_PAUSE_S * min(attempt, 20))
        raise nats.errors.Error(f"admission: {len(left)} records are written by others all the time")

    async def write(
        self, records: Iterable[AdmissionRecord], mark: Mark, *, only_changed: bool = False
    ) -> list[str]:
        """Write records over those known at `mark`; return the devices to be read from the database again.

        Args:
            only_changed: leave out what the bucket already says.

        Raises:
            nats.errors.Error: JetStream did not take them all; the caller tries again.
        """
        again: list[str] = []
        writing: list[tuple[AdmissionRecord, int]] = []
        for record in records:
            if only_changed and record.device not in self._unstored and self.find(record.device) == record:
                continue
            expected = self._sequences.get(record.device, 0)
            if mark.reading != self._reading or expected > mark.sequence:
                again.append(record.device)
                continue
            self._take_early(record)
            writing.append((record, expected))
        for start in range(0, len(writing), _AT_ONCE):
            lost = await self._put_over(writing[start : start + _AT_ONCE])
            for device in lost:
                await self._read_again(device)
            again += lost
        return again

    async def restore(self) -> None:
        """Write what is known into a bucket that lost it; what somebody else has written there stays."""
        known = [(record, 0) for record in self.values()]
        for start in range(0, len(known), _AT_ONCE):
            await self._put_over(known[start : start + _AT_ONCE])

    async def purge(self) -> None:
        """Empty the bucket and this mirror; mirrors of other processes hold theirs until they restart."""
        await super().purge()
        self._unstored.clear()
        self._reading += 1

    async def watch(self) -> None:
        """See that the bucket is being followed until cancelled; read it again where that came to an end."""
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            await retry(self._check, what="admission")

    async def _check(self) -> None:
        stored = (await self._js.stream_info(_STREAM)).state.last_seq
        if stored > self._highest:
            await asyncio.sleep(_CHECK_EVERY_S)
            if stored > self._highest:
                log.warning("admission_fell_behind", known=self._highest, stored=stored)
                await self.reload()

    def newest_version(self) -> int:
        return max((record.version for record in self.values()), default=0)

    def _take_early(self, record: AdmissionRecord) -> None:
        """Hold a record that is not stored yet: it may have to cut a device off while JetStream is away."""
        known = self.find(record.device)
        if known is None or record.version >= known.version:
            self._unstored.add(record.device)
            self._hold(record)

    async def _on_message(self, message: Msg) -> None:
        """Hear of a record that is being written; only the bucket says whether it was."""
        record = self._read(message.data)
        if record is None:
            return
        known = self.find(record.device)
        if known is None or not self._is_older(record, known):
            self._take_early(record)

    def _note_stored(self, device: str, value: AdmissionRecord | None, sequence: int) -> None:
        """Hold what the bucket says of a device, unless more recent is known; None where it is unreadable."""
        self._highest = max(self._highest, sequence)
        if sequence <= self._sequences.get(device, 0):
            return
        self._sequences[device] = sequence
        if value is not None:
            self._unstored.discard(device)
            self._hold(value)

    def _wake(self, record: AdmissionRecord, _known: AdmissionRecord | None) -> None:
        for changed in self._waiting.pop(record.device, []):
            if not changed.done():
                changed.set_result(None)
