"""The admission records of all devices in memory: the callout answers from here, never from SQL."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from nats.js import JetStreamContext

from fleetward.features.messaging.model import AdmissionRecord
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.kv import BucketMirror
from fleetward.outside.nats.streams import ADMISSION_BUCKET

_MAX_WAITING = 2_000


class AdmissionMirror(BucketMirror[AdmissionRecord]):
    """Finds a device's record, and lets a caller wait for it to change."""

    def __init__(self, connection: NatsConnection, js: JetStreamContext) -> None:
        super().__init__(
            connection,
            js,
            bucket=ADMISSION_BUCKET,
            kind=AdmissionRecord,
            is_older=lambda found, known: found.version < known.version,
        )
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._waiting_count = 0
        self.listen(self._wake)

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

    async def replace_all(self, records: Iterable[AdmissionRecord]) -> int:
        """Write those records that differ from what the bucket holds; return how many were written."""
        changed = [one for one in records if not self._says_the_same(one)]
        await self.put_all(changed)
        return len(changed)

    def newest_version(self) -> int:
        return max((record.version for record in self.values()), default=0)

    def _says_the_same(self, record: AdmissionRecord) -> bool:
        known = self.find(record.device)
        return known is not None and replace(known, version=record.version) == record

    def _wake(self, record: AdmissionRecord, _known: AdmissionRecord | None) -> None:
        for changed in self._waiting.pop(record.device, []):
            if not changed.done():
                changed.set_result(None)
