"""A fleet that stays: memory a device, and how all come back after the broker was killed.

`FLEETWARD_BENCH_DEVICES` says how many (1,000). The floor is the same simulator on a bare nats-server with
the same TLS and no callout, on the same cores.
"""

import os
import signal
import ssl
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from bench.peers import bare_nats
from bench.rig import Result, Rig, children_of, platform, raise_file_limit, wait_for
from fleetward.programs.simulator.fleet.plan import ShardPlan
from fleetward.programs.simulator.fleet.profiles import find_profile
from fleetward.programs.simulator.fleet.run import FleetSettings, prepare_fleet, running_shards

_DEVICES = int(os.environ.get("FLEETWARD_BENCH_DEVICES", "1000"))
_PROCESSES = 2
_TIMEOUT_S = 600.0
_CALM_S = 10.0
_SHARE = 0.99


def run(folder: Path) -> list[Result]:
    """Return kilobytes (1,000 bytes of VmRSS) a device in each process, and seconds until 99 % are back."""
    raise_file_limit()
    with platform(folder) as rig:
        plans = prepare_fleet(rig.data, _settings(), is_quiet=True)
        with bare_nats(rig, folder) as port:
            at_peer = [replace(plan, mqtt=f"localhost:{port}") for plan in plans]
            floor_s = _time_connects(at_peer)
        results, refused = _live(rig, plans)
        back_s, worst_ms = results.pop("back"), results.pop("worst")
    print(f"# connections refused meanwhile, each tried again: {dict(refused)}")
    return [
        Result("memory a device, nats-server", "kB", results["nats"], "goal", 100.0, "≤ 1.0"),
        Result("memory a device, platform", "kB", results["platform"], "goal", 4.0, "≤ 1.0"),
        Result("memory a device, simulator", "kB", results["simulator"], "goal", 40.0, "≤ 1.0"),
        Result(f"99 % of {_DEVICES} back", "s", back_s, "connecting to bare nats-server", floor_s, "≤ 1.8"),
        Result("health meanwhile, p99", "ms", worst_ms, "goal", 1_000.0, "≤ 1.0"),
    ]


def _settings() -> FleetSettings:
    profile = find_profile("camera")
    return FleetSettings(
        devices=_DEVICES, model="bench-fleet", group="default", profile=profile, seed=1, faults={},
        telemetry_s=60.0, metrics_s=None, update_s=0.0, for_s=None, processes=_PROCESSES, firmware="1.0.0",
    )  # fmt: skip


def _time_connects(plans: list[ShardPlan]) -> float:
    """Return the seconds until 99 % of the devices are connected."""
    with running_shards(plans) as pipes, _counting(pipes) as counts:
        wait_for(lambda: counts()["devices"] == _DEVICES, _TIMEOUT_S)
        started = time.monotonic()
        wait_for(lambda: counts()["live"] >= _SHARE * _DEVICES, _TIMEOUT_S)
        return time.monotonic() - started


def _live(rig: Rig, plans: list[ShardPlan]) -> tuple[dict[str, float], Counter[str]]:
    [nats] = [pid for pid in children_of(rig.process.pid) if "nats-server" in _command(pid)]
    before = {"nats": _resident(nats), "platform": _resident(rig.process.pid)}
    before["simulator"] = _simulator_alone(plans)
    with running_shards(plans) as pipes, _counting(pipes) as counts:
        wait_for(lambda: counts()["devices"] == _DEVICES, _TIMEOUT_S)
        wait_for(lambda: counts()["live"] == _DEVICES, _TIMEOUT_S)
        time.sleep(_CALM_S)
        after = {
            "nats": _resident(nats), "platform": _resident(rig.process.pid),
            "simulator": _simulator(),
        }  # fmt: skip
        results = {name: (after[name] - before[name]) / 1_000 / _DEVICES for name in after}
        earlier = counts()
        with _asking_health(rig) as delays:
            os.kill(nats, signal.SIGKILL)
            started = time.monotonic()
            wait_for(lambda: counts()["live"] < _DEVICES / 2, _TIMEOUT_S)
            wait_for(lambda: counts()["live"] >= _SHARE * _DEVICES, _TIMEOUT_S)
            results["back"] = time.monotonic() - started
        wait_for(lambda: counts()["live"] == _DEVICES, _TIMEOUT_S)  # none refused for good
        refused = Counter({name: count for name, count in counts().items() if name.startswith("connack_")})
        refused.subtract({name: earlier[name] for name in refused})
    results["worst"] = sorted(delays)[int(len(delays) * 0.99) - 1] * 1_000
    return results, refused


def _simulator_alone(plans: list[ShardPlan]) -> int:
    """Return what the simulator's processes take with one device each."""
    alone = [replace(one, devices=one.devices[:1]) for one in plans]
    with running_shards(alone) as pipes, _counting(pipes) as counts:
        wait_for(lambda: counts()["live"] == len(plans), _TIMEOUT_S)
        return _simulator()


def _simulator() -> int:
    return sum(_resident(pid) for pid in children_of(os.getpid()) if "spawn_main" in _command(pid))


@contextmanager
def _counting(pipes: list[Connection]) -> Iterator[Callable[[], Counter[str]]]:
    """Yield what returns the newest counts of all processes together."""
    latest: dict[int, dict[str, int]] = {}
    stopped = threading.Event()

    def read() -> None:
        while not stopped.is_set():
            ready = wait(pipes, timeout=0.2)
            for number, pipe in enumerate(pipes):
                if pipe in ready:
                    latest[number] = pipe.recv()[0]

    def total() -> Counter[str]:
        found: Counter[str] = Counter()
        for counts in list(latest.values()):
            found.update(counts)
        return found

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield total
    finally:
        stopped.set()
        thread.join()


@contextmanager
def _asking_health(rig: Rig) -> Iterator[list[float]]:
    """Yield a list that grows by the seconds each request for the platform's health took."""
    delays: list[float] = []
    stopped = threading.Event()
    context = ssl.create_default_context(cafile=str(rig.ca_file))
    url = f"https://localhost:{rig.port_base}/api/v1/health"

    def ask() -> None:
        while not stopped.wait(0.1):
            started = time.monotonic()
            with urllib.request.urlopen(url, context=context, timeout=60) as answer:
                answer.read()
            delays.append(time.monotonic() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield delays
    finally:
        stopped.set()
        thread.join()


def _resident(pid: int) -> int:
    """Return VmRSS in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
