"""The honest: devices that report, return and ask over EST, and operators that look. Each wait is measured.

Each call has its time in a plan made beforehand, and its wait counts from there: a platform that stalls is
not asked less for it.
"""

import asyncio
import itertools
import ssl
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import urllib3

from bench.rig import Device, Rig, client_context, connect_packet, packet, text
from fleetward.base.layout import DataFolder
from fleetward.features.access.service.local_token import read_admin_token

DEVICES = 200
CALLS_A_SECOND = 20
OPERATOR_ADDRESS = "127.0.1.1"
DEVICE_ADDRESS = "127.0.2.1"
_READ_EVERY_S = 10.0
_TIMEOUT_S = 30.0
_PAGES = (
    "devices?limit=50", "events?limit=50", "overview/today", "health", "devices/siege-0",
    "devices/siege-1/telemetry",
)  # fmt: skip
_CONNACK_ACCEPTED = b"\x20\x02\x00\x00"
_PUBACK, _PUBREC, _PUBCOMP = 0x40, 0x50, 0x70
_QOS2_EVERY = 10
_QOS1, _QOS2 = 0x32, 0x34


@dataclass
class Tally:
    """Waits of one span in seconds by kind and by what was asked for, and what was refused and why."""

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    asked: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[str] = field(default_factory=Counter)

    def wait(self, kind: str, share: float) -> float:
        """Return what this share of the waits did not go beyond, in seconds; 1.0 is the worst of all."""
        found = sorted(self.waits[kind])
        return found[min(len(found) - 1, int(len(found) * share))] if found else 0.0


class Honest:
    """The load; `take` ends a span and begins the next."""

    def __init__(self, rig: Rig, devices: Sequence[Device]) -> None:
        self._rig = rig
        self._devices = devices
        self._tally = Tally()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._token = read_admin_token(DataFolder(rig.data).admin_token)
        self.is_live = threading.Event()

    def take(self) -> Tally:
        """Return what was noted since the last call."""
        with self._lock:
            taken, self._tally = self._tally, Tally()
        return taken

    @contextmanager
    def running(self) -> Iterator[None]:
        """Apply the load while the block runs; it begins once all devices are connected."""
        threads = [threading.Thread(target=self._operate, args=(n,)) for n in range(CALLS_A_SECOND)]
        threads += [threading.Thread(target=self._ask_est), threading.Thread(target=self._be_devices)]
        for thread in threads:
            thread.start()
        try:
            if not self.is_live.wait(_TIMEOUT_S * 4):
                raise TimeoutError("the honest devices did not get connected")
            yield
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()

    def note(self, kind: str, since: float, refusal: str = "", *, path: str = "") -> None:
        """Note one wait since a moment of the monotonic clock, and why it was refused, if it was."""
        with self._lock:
            self._tally.waits[kind].append(time.monotonic() - since)
            self._tally.asked[path or kind].append(self._tally.waits[kind][-1])
            if refusal:
                self._tally.refused[f"{kind}: {refusal}"] += 1

    def _every(self, seconds: float, offset: float, act: Callable[[float], None]) -> None:
        due = time.monotonic() + offset
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            act(due)
            due += seconds

    def _operate(self, number: int) -> None:
        pages = itertools.cycle(_PAGES[number % len(_PAGES) :] + _PAGES[: number % len(_PAGES)])
        context = ssl.create_default_context(cafile=str(self._rig.ca_file))
        pool = urllib3.HTTPSConnectionPool(
            "localhost", self._rig.port_base, ssl_context=context, retries=False, timeout=_TIMEOUT_S,
            source_address=(OPERATOR_ADDRESS, 0), headers={"Authorization": f"Bearer {self._token}"},
        )  # fmt: skip
        with pool:
            self._every(
                1.0, number / CALLS_A_SECOND, lambda due: self._get(pool, f"/api/v1/{next(pages)}", due)
            )

    def _get(self, pool: urllib3.HTTPSConnectionPool, path: str, due: float) -> None:
        kind = "EST" if path.startswith("/.well-known/") else "operator"
        try:
            answer = pool.request("GET", path)
            self.note(kind, due, "" if answer.status == 200 else f"{answer.status} of {path}", path=path)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self.note(kind, due, f"{type(error).__name__} of {path}", path=path)

    def _ask_est(self) -> None:
        """One device a second, each on a connection of its own, as a renewal makes it."""
        turn = itertools.cycle(self._devices)

        def ask(due: float) -> None:
            pool = urllib3.HTTPSConnectionPool(
                "localhost", self._rig.port_base + 1, retries=False, timeout=_TIMEOUT_S,
                ssl_context=client_context(self._rig.ca_file, next(turn)), source_address=(DEVICE_ADDRESS, 0),
            )  # fmt: skip
            with pool:
                self._get(pool, "/.well-known/est/cacerts", due)

        self._every(1.0, 0.5, ask)

    def _be_devices(self) -> None:
        asyncio.run(self._fleet())

    async def _fleet(self) -> None:
        members = [_Member(self, self._rig, one, number) for number, one in enumerate(self._devices)]
        for member in members:
            await member.connect(time.monotonic())
        self.is_live.set()
        tasks = [asyncio.create_task(one.run(self._stopped, _READ_EVERY_S)) for one in members]
        turn, due = itertools.cycle(members), time.monotonic()
        while not self._stopped.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await next(turn).come_back(due)
            due += 1.0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for member in members:
            member.close()


class _Member:
    """One honest device: connected, a reading each ten seconds, of which each tenth at QoS 2."""

    def __init__(self, honest: Honest, rig: Rig, device: Device, number: int) -> None:
        self._honest = honest
        self._rig = rig
        self._device = device
        self._number = number
        self._context = client_context(rig.ca_file, device)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._lock = asyncio.Lock()
        self._next = 0

    async def connect(self, due: float) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self._rig.mqtt_port, ssl=self._context, server_hostname="localhost",
                    local_addr=(DEVICE_ADDRESS, 0),
                )  # fmt: skip
                writer.write(connect_packet(self._device.id))
                answer = await reader.readexactly(4)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self._honest.note("return", due, type(error).__name__)
            return
        if answer != _CONNACK_ACCEPTED:
            writer.close()
            self._honest.note("return", due, f"CONNACK {answer.hex()}")
            return
        self._streams = reader, writer
        self._honest.note("return", due)

    async def come_back(self, due: float) -> None:
        async with self._lock:
            self.close()
            await self.connect(due)

    async def run(self, stopped: threading.Event, every_s: float) -> None:
        due = time.monotonic() + every_s * self._number / DEVICES
        while not stopped.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            async with self._lock:
                if self._streams is None:
                    await self.connect(due)
                if self._streams is not None:
                    await self._report(*self._streams, due)
            due += every_s

    async def _report(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, due: float) -> None:
        self._next += 1
        is_twice = (self._number + self._next) % _QOS2_EVERY == 0
        kind = "QoS 2" if is_twice else "QoS 1"
        number = struct.pack(">H", self._next)
        body = text(f"d/{self._device.id}/t/celsius") + number + b"21.5"
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                writer.write(packet(_QOS2 if is_twice else _QOS1, body))
                if is_twice:
                    await _expect(reader, _PUBREC, number)
                    writer.write(b"\x62\x02" + number)
                await _expect(reader, _PUBCOMP if is_twice else _PUBACK, number)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            self._honest.note(kind, due, type(error).__name__)
            self.close()
        else:
            self._honest.note(kind, due)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _expect(reader: asyncio.StreamReader, head: int, number: bytes) -> None:
    """Raises ValueError when another packet than the acknowledgement comes (MQTT 3.1.1 section 3.4)."""
    answer = await reader.readexactly(4)
    if answer != bytes([head, 2]) + number:
        raise ValueError(answer.hex())
