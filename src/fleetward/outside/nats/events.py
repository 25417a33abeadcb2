"""Hears events of the rooms below and makes the broker follow: who may connect, who must go, what is sent."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial

from fleetward.base.clock import Clock
from fleetward.base.db import Database
from fleetward.base.errors import InvalidInputError
from fleetward.base.logging import get_logger
from fleetward.features.messaging import handlers
from fleetward.features.messaging.model import AdmissionRecord, Refusal, RefusalCode, find_refusal
from fleetward.outside.nats.connection import NatsConnection
from fleetward.outside.nats.consumer import Delivery
from fleetward.outside.nats.downlink import Downlink
from fleetward.outside.nats.mirror import AdmissionMirror
from fleetward.outside.nats.outbox import SUBJECT_PREFIX
from fleetward.outside.nats.presence import publish_session_ended

log = get_logger("events")

NAME = "messaging"
_SERVED_KINDS = (handlers.COMMAND_QUEUED, handlers.SHADOW_DESIRED)
SUBJECTS = tuple(
    f"{SUBJECT_PREFIX}{kind}"
    for kind in (*sorted(handlers.ADMISSION_KINDS), handlers.COMMAND_QUEUED, handlers.SHADOW_DESIRED)
)


class EventHandler:
    """Handles batches of events; see `handlers.admission_devices`."""

    def __init__(
        self,
        *,
        db: Database,
        threads: Executor,
        clock: Clock,
        platform: NatsConnection,
        admission: AdmissionMirror,
        downlink: Downlink,
    ) -> None:
        self._db = db
        self._threads = threads
        self._clock = clock
        self._platform = platform
        self._admission = admission
        self._downlink = downlink

    async def handle(self, batch: list[Delivery]) -> None:
        """Write changed admission records first: that disconnects who must go."""
        notices = _parse(batch)
        revoked = {
            one.device for one in notices if one.kind == handlers.CERTIFICATE_REVOKED and not one.superseded
        }
        for notice in notices:
            if notice.superseded and notice.device is not None:
                refusal = _revoked(notice.device)
                await publish_session_ended(self._platform, notice.device, refusal, serials=notice.superseded)
        concerned = handlers.admission_devices(notices)
        if concerned:
            await self._admission.change(concerned, partial(self._draw_and_tell, revoked))
        for notice in notices:
            if (
                notice.kind in (handlers.COMMAND_QUEUED, handlers.SHADOW_DESIRED)
                and notice.device is not None
            ):
                self._downlink.serve(notice.device)

    async def draw(self, devices: Sequence[str]) -> list[AdmissionRecord]:
        """Return the records of devices as the database has them now."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, handlers.admission_records, self._db, devices)

    async def _draw_and_tell(self, revoked: set[str | None], devices: Sequence[str]) -> list[AdmissionRecord]:
        """Return records as they are now, having told of each device that may hold no session with it."""
        records = await self.draw(devices)
        for record in records:
            refusal = self._refuses_every_session(record, had_revocation=record.device in revoked)
            if refusal is not None:
                await publish_session_ended(self._platform, record.device, refusal)
        return records

    def _refuses_every_session(self, record: AdmissionRecord, *, had_revocation: bool) -> Refusal | None:
        """Return why running video must end too: it may run on any certificate of the device."""
        refusal = find_refusal(record, None, self._clock.now())
        if refusal is None and had_revocation:
            return _revoked(record.device)
        return refusal


def _revoked(device: str) -> Refusal:
    return Refusal(RefusalCode.CERTIFICATE_REVOKED, f"A certificate of device {device} was revoked.", device)


def _parse(batch: list[Delivery]) -> list[handlers.Notice]:
    notices = []
    for message in batch:
        try:
            notices.append(handlers.parse_notice(message.data))
        except InvalidInputError as error:
            log.warning("event_unreadable", subject=message.subject, reason=error.message)
    return notices
