"""Load on a platform that remembers what was acknowledged to it."""

import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from bench.rig import Device, Rig, client_context, connect_packet, packet, text
from fleetward.base.errors import FleetwardError
from support.platform import Platform

_WINDOW = 32
_PAUSE_S = 0.02
_A_STREAM = 500
_PAGE = 1000
_TIMEOUT_S = 10.0


class Load(ABC):
    """Something that keeps the platform busy in a thread of its own."""

    def __init__(self) -> None:
        self.acknowledged_count = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it; what was sent and not acknowledged by now is nobody's promise."""
        self._stopped.set()
        self._thread.join()

    @abstractmethod
    def find_loss(self) -> str:
        """Return which acknowledged thing the platform does not have; "" when it has them all."""

    @abstractmethod
    def _run(self) -> None: ...


class Publisher(Load):
    """A device that publishes numbers at QoS 1, never the same twice."""

    def __init__(self, rig: Rig, device: Device, round_name: str) -> None:
        super().__init__()
        self._rig = rig
        self._device = device
        self._round = round_name
        self._context = client_context(rig.ca_file, device)
        self._next = 0
        self._acknowledged: set[int] = set()

    def find_loss(self) -> str:
        lost: set[int] = set()
        for chunk in range(self._next // _A_STREAM + 1):
            wanted = {number for number in self._acknowledged if number // _A_STREAM == chunk}
            if wanted:
                lost |= wanted - self._read(chunk)
        return (
            f"{self._device.id}: {len(lost)} acknowledged messages lost: {sorted(lost)[:5]}" if lost else ""
        )

    def _read(self, chunk: int) -> set[int]:
        path = f"/devices/{self._device.id}/telemetry"
        page = self._rig.api.get(path, stream=f"{self._round}-{chunk}", limit=_PAGE)
        return {record["value"] for record in page["records"]}

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._connect() as stream:
                    self._publish(stream)
            except OSError:
                self._stopped.wait(_PAUSE_S)  # it is dead, or not back yet: connect again

    def _connect(self) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self._rig.mqtt_port), timeout=_TIMEOUT_S)
        stream = self._context.wrap_socket(plain, server_hostname="localhost")
        stream.sendall(connect_packet(self._device.id))
        if stream.recv(4)[3:] != b"\x00":
            stream.close()
            raise ConnectionRefusedError(self._device.id)
        return stream

    def _publish(self, stream: socket.socket) -> None:
        """Publish until stopped. A PUBACK is four bytes (MQTT 3.1.1 section 3.4)."""
        while not self._stopped.wait(_PAUSE_S):
            numbers = range(self._next, self._next + _WINDOW)
            self._next += _WINDOW
            stream.sendall(b"".join(map(self._message, numbers)))
            in_flight = {struct.pack(">H", _packet_id(number)): number for number in numbers}
            rest = b""
            while in_flight:
                received = stream.recv(4096)
                if not received:
                    return
                rest += received
                while len(rest) >= 4:
                    self._acknowledged.add(in_flight.pop(rest[2:4]))
                    self.acknowledged_count += 1
                    rest = rest[4:]

    def _message(self, number: int) -> bytes:
        topic = text(f"d/{self._device.id}/t/{self._round}-{number // _A_STREAM}")
        return packet(0x32, topic + struct.pack(">H", _packet_id(number)) + str(number).encode())


def _packet_id(number: int) -> int:
    return number % 65_535 + 1


class Operator(Load):
    """Someone who adds devices, quarantines and releases one, and changes what it shall be."""

    def __init__(self, platform: Platform, device: str, round_name: str) -> None:
        super().__init__()
        self._api = platform.api
        self._device = device
        self._round = round_name
        self._added: list[str] = []
        self._reasons: list[str] = []
        self._shadow: tuple[int, int] | None = None

    def find_loss(self) -> str:
        registered = {one["id"] for one in self._list("devices", search=f"added-{self._round}-")}
        events = self._list("events", device=self._device)
        found = {one["details"]["reason"] for one in events if one["kind"] == "device.state_changed"}
        lost = [name for name in self._added if name not in registered]
        lost += [reason for reason in self._reasons if reason not in found]
        if self._shadow is not None:
            version, number = self._shadow
            shadow = self._api.get(f"/devices/{self._device}/shadow")
            is_kept = shadow["desired_version"] > version or shadow["desired"] == {"number": number}
            if shadow["desired_version"] < version or not is_kept:
                lost.append(f"shadow version {version}")
        return f"{len(lost)} acknowledged state changes lost: {lost[:5]}" if lost else ""

    def _list(self, what: str, **query: Any) -> Iterator[dict[str, Any]]:
        after: str | int | None = None
        while True:
            page = self._api.get(f"/{what}", limit=_PAGE, after=after, **query)
            yield from page[what]
            after = page["next_after"]
            if after is None:
                return

    def _run(self) -> None:
        number = 0
        while not self._stopped.is_set():
            number += 1
            try:
                self._change(number)
            except FleetwardError:
                self._stopped.wait(_PAUSE_S)  # it is dead, or not back yet: go on with the next

    def _change(self, number: int) -> None:
        api, device, reason = self._api, self._device, f"{self._round}-{number}"
        name = f"added-{reason}"
        api.post("/devices", {"id": name, "model": "bench"})
        self._added.append(name)
        self.acknowledged_count += 1
        for verb in ("quarantine", "release"):
            after = api.post(f"/devices/{device}/{verb}", {"reason": f"{verb} {reason}"})
            if after["state_reason"] == f"{verb} {reason}":  # else it was in that state already
                self._reasons.append(f"{verb} {reason}")
                self.acknowledged_count += 1
        shadow = api.put(f"/devices/{device}/shadow/desired", {"state": {"number": number}})
        self._shadow = (shadow["desired_version"], number)
        self.acknowledged_count += 1
