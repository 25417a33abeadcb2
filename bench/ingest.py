"""What taking in a device's message costs the platform, and how many a second one worker keeps.

Twenty devices publish QoS 1 readings as fast as they are acknowledged, on the same cores; it ends when the
last reading of each can be read back. Then the same devices send a thousand a second between them. What
counts is what the platform's own process used: nats-server's work is not in it.
"""

import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.rig import (
    Device,
    Result,
    Rig,
    client_context,
    cpu_seconds,
    open_mqtt_socket,
    packet,
    platform,
    raise_file_limit,
    text,
    wait_for,
)

_DEVICES = 20
_EACH = 4_000
_WINDOW = 64
_CALM_S = 3.0
_TIMEOUT_S = 300.0
_PER_SECOND = 1_000
_PACED_S = 20
_MAX_ID = 65_535
_PERCENT = 100
_MICRO = 1_000_000


def run(folder: Path) -> list[Result]:
    """Return CPU-µs a message, messages kept a second, and the share of a core at a thousand a second."""
    raise_file_limit()
    with platform(folder) as rig:
        devices = rig.enroll(_DEVICES)
        _flood(rig, devices, 200)  # warms up
        micros, rate = _flood(rig, devices, _EACH)
        percent = _pace(rig, devices)
    return [
        Result("taking in a message", "CPU-µs", micros, "goal", 50.0, "≤ 1.0"),
        Result("messages kept by one worker", "1/s", rate, "goal", 15_000.0, "≥ 1.0"),
        Result(f"the platform at {_PER_SECOND:,}/s", "% of a core", percent, "goal", 15.0, "≤ 1.0"),
    ]


def _flood(rig: Rig, devices: Sequence[Device], each: int) -> tuple[float, float]:
    time.sleep(_CALM_S)
    streams = _open_all(rig, devices)
    cpu_s, began_at = cpu_seconds(rig.process.pid), time.monotonic()
    with ThreadPoolExecutor(len(devices)) as threads:
        list(threads.map(lambda device, stream: _publish(device, stream, each), devices, streams))
    wait_for(lambda: all(_last_kept(rig, device) == each - 1 for device in reversed(devices)), _TIMEOUT_S)
    took_s = time.monotonic() - began_at
    time.sleep(_CALM_S)
    for stream in streams:
        stream.close()
    count = len(devices) * each
    return (cpu_seconds(rig.process.pid) - cpu_s) / count * _MICRO, count / took_s


def _pace(rig: Rig, devices: Sequence[Device]) -> float:
    """Return what the process used at `_PER_SECOND`, beyond what it uses while nobody sends."""
    streams = _open_all(rig, devices)
    ended = threading.Event()
    readers = [threading.Thread(target=_discard, args=(stream, ended)) for stream in streams]
    for reader in readers:
        reader.start()
    time.sleep(_CALM_S)
    at_rest = _used(rig, lambda: time.sleep(_PACED_S))
    busy = _used(rig, lambda: _send_paced(devices, streams))
    ended.set()
    for reader, stream in zip(readers, streams, strict=True):
        reader.join()
        stream.close()
    return busy - at_rest


def _used(rig: Rig, act: Callable[[], None]) -> float:
    cpu_s, began_at = cpu_seconds(rig.process.pid), time.monotonic()
    act()
    return (cpu_seconds(rig.process.pid) - cpu_s) / (time.monotonic() - began_at) * _PERCENT


def _send_paced(devices: Sequence[Device], streams: Sequence[ssl.SSLSocket]) -> None:
    began_at = time.monotonic()
    for number in range(_PER_SECOND * _PACED_S):
        at = number % len(devices)
        streams[at].sendall(_reading(devices[at], number))
        time.sleep(max(0.0, began_at + number / _PER_SECOND - time.monotonic()))


def _discard(stream: ssl.SSLSocket, ended: threading.Event) -> None:
    stream.settimeout(0.5)
    while not ended.is_set():
        try:
            stream.recv(65_536)
        except TimeoutError:
            continue


def _open_all(rig: Rig, devices: Sequence[Device]) -> list[ssl.SSLSocket]:
    return [
        open_mqtt_socket(rig.mqtt_port, client_context(rig.ca_file, device), device.id) for device in devices
    ]


def _publish(device: Device, stream: ssl.SSLSocket, count: int) -> None:
    sent, acknowledged, rest = 0, 0, b""
    while acknowledged < count:
        if sent < count and sent - acknowledged <= _WINDOW // 2:
            burst = range(sent, min(count, acknowledged + _WINDOW))
            stream.sendall(b"".join(_reading(device, number) for number in burst))
            sent = burst.stop
        rest += stream.recv(65_536)
        acknowledged += len(rest) // 4  # a PUBACK is four bytes
        rest = rest[len(rest) // 4 * 4 :]


def _reading(device: Device, number: int) -> bytes:
    payload = b'{"n":%d,"celsius":21.5,"pad":"%s"}' % (number, b"x" * 90)
    return packet(
        0x32, text(f"d/{device.id}/t/temperature") + struct.pack(">H", number % _MAX_ID + 1) + payload
    )


def _last_kept(rig: Rig, device: Device) -> int | None:
    found = rig.api.get(f"/devices/{device.id}/telemetry", stream="temperature", limit=1)["records"]
    return int(found[-1]["value"]["n"]) if found else None
