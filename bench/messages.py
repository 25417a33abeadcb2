"""QoS 1 messages a second that the broker acknowledges, with our ingest, beside mosquitto and bare nats."""

import multiprocessing
import struct
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from bench.peers import bare_nats, mosquitto, storing_nats
from bench.rig import Device, Result, client_context, open_mqtt_socket, packet, platform, text

_PUBLISHERS = 2
_MESSAGES = 20_000
_WINDOW = 64
_PAYLOAD = b'{"celsius":21.5,"pad":"' + b"x" * 104 + b'"}'
_ROUNDS = 3


def run(folder: Path) -> list[Result]:
    """Return acknowledged messages a second; the best of three rounds, taken in turn."""
    with platform(folder) as rig:
        devices = rig.enroll(_PUBLISHERS)
        with (
            mosquitto(rig, folder) as mosquitto_port,
            bare_nats(rig, folder) as nats_port,
            storing_nats(rig, folder / "storing") as storing_port,
        ):
            ports = (rig.mqtt_port, mosquitto_port, nats_port, storing_port)
            rates: dict[int, list[float]] = {port: [] for port in ports}
            for _ in range(_ROUNDS):
                for port, found in rates.items():
                    found.append(_measure(port, rig.ca_file, devices))
                    time.sleep(2)
    ours = max(rates[rig.mqtt_port])
    return [
        Result("QoS 1 accepted", "msg/s", ours, "mosquitto", max(rates[mosquitto_port]), "≥ 1.0"),
        Result("QoS 1 accepted", "msg/s", ours, "bare nats-server", max(rates[nats_port]), "≥ 0.95"),
        Result("QoS 1 accepted", "msg/s", ours, "the same, storing", max(rates[storing_port]), ""),
    ]


def _measure(port: int, ca_file: Path, devices: list[Device]) -> float:
    queue: Any = multiprocessing.Queue()
    barrier = multiprocessing.Barrier(len(devices))
    workers = [
        multiprocessing.Process(target=_publish, args=(port, ca_file, device, barrier, queue))
        for device in devices
    ]
    for worker in workers:
        worker.start()
    spans: list[tuple[float, float]] = [queue.get(timeout=180) for _ in workers]
    for worker in workers:
        worker.join()
    return len(devices) * _MESSAGES / (max(end for _, end in spans) - min(start for start, _ in spans))


def _publish(port: int, ca_file: Path, device: Device, barrier: Barrier, queue: Any) -> None:
    context = client_context(ca_file, device)
    topic = text(f"d/{device.id}/t/temperature")
    with open_mqtt_socket(port, context, device.id) as stream:
        barrier.wait()
        start, sent, acknowledged, rest = time.monotonic(), 0, 0, b""
        while acknowledged < _MESSAGES:
            if sent < _MESSAGES and sent - acknowledged <= _WINDOW // 2:
                burst = min(_WINDOW - (sent - acknowledged), _MESSAGES - sent)
                numbers = range(sent, sent + burst)
                stream.sendall(
                    b"".join(
                        packet(0x32, topic + struct.pack(">H", n % 65_535 + 1) + _PAYLOAD) for n in numbers
                    )
                )
                sent += burst
            rest += stream.recv(65_536)
            acknowledged += len(rest) // 4  # a PUBACK is four bytes
            rest = rest[len(rest) // 4 * 4 :]
        queue.put((start, time.monotonic()))
