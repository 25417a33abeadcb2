"""Tells whom the listeners turned away, as events: off the event loop and never in a flood."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from fleetward.base.db import Database
from fleetward.base.errors import FleetwardError
from fleetward.base.events import Severity, emit
from fleetward.base.limiting.repeats import Repeats
from fleetward.base.logging import get_logger
from fleetward.programs.server.tls import TlsRefusal

log = get_logger("tls")

_MAX_UNWRITTEN = 100


class TlsRefusals:
    """Turns refused handshakes into `tls.refused` events, off the event loop and never in a flood.

    Hand it to a listener as `on_refused`; close it when the listener has stopped.
    """

    def __init__(self, db: Database, repeats: Repeats, *, listener: str) -> None:
        self._db = db
        self._repeats = repeats
        self._listener = listener
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tls-refusals")
        self._room = threading.BoundedSemaphore(_MAX_UNWRITTEN)

    def __call__(self, refusal: TlsRefusal) -> None:
        key = ("tls.refused", self._listener, refusal.address, refusal.reason)
        repeats = self._repeats.admit(key, time.monotonic())
        if repeats is None:
            return
        if self._room.acquire(blocking=False):
            self._writer.submit(self._write, refusal, key, repeats)
        else:
            self._repeats.give_back(key, repeats)

    def close(self) -> None:
        """Write what is waiting, then stop."""
        self._writer.shutdown()

    def _write(self, refusal: TlsRefusal, key: tuple[str, ...], repeats: int) -> None:
        try:
            with self._db.write("system:tls") as tx:
                emit(
                    tx,
                    "tls.refused",
                    f"The {self._listener} port refused a client at {refusal.address}: {refusal.said}.",
                    severity=Severity.WARNING,
                    reason=refusal.reason,
                    address=refusal.address,
                    listener=self._listener,
                    repeats=repeats,
                )
        except FleetwardError as error:
            self._repeats.give_back(key, repeats)
            log.warning("tls_refusal_not_recorded", reason=refusal.reason, error=error.code)
        finally:
            self._room.release()


class DtlsRefusals:
    """Turns failed handshakes into `tls.refused` events, off the event loop and never in a flood."""

    def __init__(self, db: Database) -> None:
        self._db, self._repeats = db, Repeats()
        self._writing: set[asyncio.Task[None]] = set()

    def __call__(self, address: str, reason: str) -> None:
        repeats = self._repeats.admit(("tls.refused", address, reason), time.monotonic())
        if repeats is not None:
            task = asyncio.create_task(asyncio.to_thread(self._write, address, reason, repeats))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    def _write(self, address: str, reason: str, repeats: int) -> None:
        with self._db.write("system:dtls") as tx:
            emit(
                tx, "tls.refused", f"The DTLS port refused a client at {address}: {reason}.",
                severity=Severity.WARNING, listener="dtls", address=address, reason=reason, repeats=repeats,
            )  # fmt: skip
