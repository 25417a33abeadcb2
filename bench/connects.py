"""mTLS connects a second through the whole policy, beside mosquitto and beside bare nats-server.

Sixteen at once, as when a fleet comes back: what counts is what the broker gets done, not how long one takes.
"""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from bench.peers import bare_nats, mosquitto
from bench.rig import Device, Result, client_context, open_mqtt_socket, platform, raise_file_limit

_PROCESSES = 4
_THREADS = 4
_PER_PROCESS = 100
_ROUNDS = 3


def run(folder: Path) -> list[Result]:
    """Return the connect rates; each is the best of three rounds, taken in turn."""
    raise_file_limit()
    with platform(folder) as rig:
        devices = rig.enroll(_PROCESSES * _PER_PROCESS)
        with mosquitto(rig, folder) as mosquitto_port, bare_nats(rig, folder) as nats_port:
            rates: dict[int, list[float]] = {rig.mqtt_port: [], mosquitto_port: [], nats_port: []}
            for _ in range(_ROUNDS):
                for port, found in rates.items():
                    found.append(_measure(port, rig.ca_file, devices))
                    time.sleep(2)  # the broker holds back an id that comes again at once
    ours = max(rates[rig.mqtt_port])
    return [
        Result("mTLS connects", "1/s", ours, "mosquitto", max(rates[mosquitto_port]), "≥ 4"),
        Result("mTLS connects", "1/s", ours, "nats-server without callout", max(rates[nats_port]), "≥ 0.8"),
    ]


def _measure(port: int, ca_file: Path, devices: Sequence[Device]) -> float:
    queue: Any = multiprocessing.Queue()
    barrier = multiprocessing.Barrier(_PROCESSES)
    shares = [devices[number::_PROCESSES] for number in range(_PROCESSES)]
    workers = [
        multiprocessing.Process(target=_connect_all, args=(port, ca_file, share, barrier, queue))
        for share in shares
    ]
    for worker in workers:
        worker.start()
    spans: list[tuple[float, float]] = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    return len(devices) / (max(end for _, end in spans) - min(start for start, _ in spans))


def _connect_all(port: int, ca_file: Path, devices: Sequence[Device], barrier: Barrier, queue: Any) -> None:
    contexts = [client_context(ca_file, device) for device in devices]
    barrier.wait()
    start, names = time.monotonic(), [device.id for device in devices]
    with ThreadPoolExecutor(_THREADS) as threads:
        streams = list(threads.map(open_mqtt_socket, [port] * len(names), contexts, names))
    queue.put((start, time.monotonic()))
    for stream in streams:
        stream.close()
