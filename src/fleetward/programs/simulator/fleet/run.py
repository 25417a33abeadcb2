"""`fleetward demo fleet`: makes the fleet, spreads it over processes, and shows how it is."""

import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import click

from fleetward.base.clock import SystemClock
from fleetward.base.errors import ConfigError, ConflictError, UnavailableError
from fleetward.base.ids import parse_id
from fleetward.outside.http.platform import Api, find_platform
from fleetward.programs.simulator.fleet.device import Behaviour
from fleetward.programs.simulator.fleet.faults import Fault
from fleetward.programs.simulator.fleet.identities import Keys, Wallet, enroll, ship
from fleetward.programs.simulator.fleet.plan import ShardPlan, device_id
from fleetward.programs.simulator.fleet.profiles import Profile
from fleetward.programs.simulator.fleet.shard import run_shard
from fleetward.programs.simulator.fleet.upkeep import Trust
from fleetward.wire.manifest import parse_pinned_keys

MAX_PROCESSES = 16
_DEVICES_A_PROCESS = 4_000
_FILES_BESIDES = 256
_WALLET_PAGE = 500
_STILL_GOOD_FOR = timedelta(hours=1)
_STOP_TIMEOUT_S = 30.0
_SHOW_EVERY_S = 1.0
_SHOWN = (
    "live", "connecting", "published", "acknowledged", "held", "dropped", "answered", "renewed",
    "update_confirmed", "update_rolled_back",
)  # fmt: skip


@dataclass(frozen=True)
class FleetSettings:
    """What the command line asks for.

    Attributes:
        telemetry_s, metrics_s: seconds between messages of a device; None for the profile's.
        for_s: how long to run; None until a signal.
        processes: 0 chooses by the number of devices and cores.
    """

    devices: int
    model: str
    group: str
    profile: Profile
    seed: int
    faults: dict[Fault, float]
    telemetry_s: float | None
    metrics_s: float | None
    update_s: float
    for_s: float | None
    processes: int
    firmware: str


def run_fleet(data: Path, settings: FleetSettings, *, as_json: bool) -> int:
    """Simulate a fleet on the platform of `data` until its time is over or a signal; return the exit code.

    Raises:
        UnavailableError: no platform runs there, or it refuses a device.
        ConfigError: the limit of open files is too low for the fleet.
    """
    plans = prepare_fleet(data, settings, is_quiet=as_json)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with running_shards(plans) as pipes:
        totals = _watch(pipes, settings, stopped, as_json=as_json)
    _show(totals, settings, is_last=True, as_json=as_json)
    return 0


def prepare_fleet(data: Path, settings: FleetSettings, *, is_quiet: bool) -> list[ShardPlan]:
    """Make the model and the identities that are missing; return what each process is to simulate.

    Raises:
        UnavailableError: no platform runs there, or it refuses a device.
        ConfigError: the limit of open files is too low for the fleet.
    """
    api = find_platform(data)
    ready = json.loads((data / "ready.json").read_text())
    processes = settings.processes or _choose_processes(settings.devices)
    _allow_files(settings.devices // processes + _FILES_BESIDES)
    folder = data / "demo" / "fleet" / parse_id(settings.model, what="model")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    devices = [(number, device_id(settings.model, number)) for number in range(settings.devices)]
    trust = _make_model(api, settings)
    _make_identities(api, ready, folder, settings, [name for _, name in devices], is_quiet=is_quiet)
    return _plan(folder, ready, settings, trust, devices, processes)


def _choose_processes(devices: int) -> int:
    cores = os.cpu_count() or 1
    return max(1, min(MAX_PROCESSES, cores, -(-devices // 100)), -(-devices // _DEVICES_A_PROCESS))


def _allow_files(needed: int) -> None:
    """Allow a process as many open files as it needs; they inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigError(
            f"open files: expected a limit of at least {needed}, found {hard}",
            hint="Raise it (ulimit -Hn), or spread the fleet: --processes N.",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _make_model(api: Api, settings: FleetSettings) -> Trust:
    """Register the fleet's model, and return what its devices judge updates by."""
    known = {model["id"]: model for model in api.get("/models")}
    if settings.model not in known:
        body = {"id": settings.model, "attestation": "none", "min_tier": "software"}
        api.post("/models", body)
    elif known[settings.model]["attestation"] != "none":
        raise ConflictError(
            f"model {settings.model}: expected one without attestation, found one that asks for it",
            hint="Simulated devices have no chip: choose another --model.",
        )
    trust = api.get("/trust/updates")
    keys = parse_pinned_keys(trust["firmware_keys"].encode())
    return Trust(settings.model, trust["tuf_root"].encode(), keys)


def _make_identities(
    api: Api,
    ready: dict[str, str],
    folder: Path,
    settings: FleetSettings,
    devices: list[str],
    *,
    is_quiet: bool,
) -> None:
    """Give a certificate to each device that has none; those of an earlier run are used again."""
    keys, wallet, now = Keys(folder.parent), Wallet(folder), SystemClock().now()
    known = wallet.find(devices, good_at=now + _STILL_GOOD_FOR)
    missing = [one for one in devices if one not in known]
    if not missing:
        return
    ship(api, keys, devices, settings.model, settings.group, now)
    with _progress(len(missing), is_quiet=is_quiet) as on_done:
        page = []
        for identity in enroll(ready["devices"], Path(ready["ca_file"]), keys, missing, on_done):
            page.append(identity)
            if len(page) == _WALLET_PAGE:
                wallet.put(page)
                page = []
        wallet.put(page)


@contextmanager
def _progress(total: int, *, is_quiet: bool) -> Iterator[Callable[[int], None]]:
    """Yield what moves a progress bar on standard error."""
    if is_quiet:
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - only people wait for it
    from rich.progress import Progress  # noqa: PLC0415 - as above

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("Enrolling over EST", total=total)
        yield lambda count: bars.update(task, advance=count)


def _plan(
    folder: Path,
    ready: dict[str, str],
    settings: FleetSettings,
    trust: Trust,
    devices: list[tuple[int, str]],
    processes: int,
) -> list[ShardPlan]:
    now = SystemClock().now()
    profile = settings.profile
    behaviour = Behaviour(
        profile=profile,
        telemetry_s=settings.telemetry_s or profile.telemetry_s,
        metrics_s=settings.metrics_s or profile.metrics_s,
        run=f"{int(now.timestamp()):x}",
        started_s=now.timestamp(),
    )
    return [
        ShardPlan(
            folder=folder,
            number=number,
            server=ready["devices"],
            mqtt=ready["mqtt"],
            ca_file=Path(ready["ca_file"]),
            seed=settings.seed,
            devices=devices[number::processes],
            size=settings.devices,
            prefix=settings.model,
            behaviour=behaviour,
            faults=settings.faults,
            trust=trust,
            firmware=settings.firmware,
            update_s=settings.update_s,
        )
        for number in range(processes)
    ]


@contextmanager
def running_shards(plans: list[ShardPlan]) -> Iterator[list[Connection]]:
    """Run a process for each plan while the block does; yield what each reports through."""
    context = multiprocessing.get_context("spawn")
    started: list[tuple[BaseProcess, Connection]] = []
    try:
        for plan in plans:
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=run_shard, args=(plan, theirs), name=f"fleet-{plan.number}"
            )
            process.start()
            theirs.close()
            started.append((process, ours))
        yield [pipe for _, pipe in started]
    finally:
        for process, pipe in started:
            _end(process, pipe)


def _end(process: BaseProcess, pipe: Connection) -> None:
    with suppress(BrokenPipeError):  # it is gone already, and `_watch` has said so
        pipe.send("stop")
    process.join(_STOP_TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
    pipe.close()


def _watch(
    pipes: list[Connection], settings: FleetSettings, stopped: threading.Event, *, as_json: bool
) -> Counter[str]:
    """Gather what the processes report until the time is over or somebody stops us; return the last counts.

    Raises:
        UnavailableError: a process ended by itself.
    """
    latest: dict[Connection, tuple[dict[str, int], str]] = {}
    started = shown = time.monotonic()
    while not stopped.is_set() and (settings.for_s is None or time.monotonic() - started < settings.for_s):
        for pipe in wait(pipes, timeout=_SHOW_EVERY_S / 4):
            found = cast("Connection", pipe)
            try:
                latest[found] = found.recv()
            except EOFError as error:
                raise UnavailableError(
                    "fleet: expected its processes to run, found that one has ended",
                    hint="What it said stands above.",
                ) from error
        if time.monotonic() - shown >= _SHOW_EVERY_S and latest:
            shown = time.monotonic()
            trouble = next((said for _, said in latest.values() if said), "")
            _show(_total(latest), settings, trouble=trouble, as_json=as_json)
    return _total(latest)


def _total(latest: dict[Connection, tuple[dict[str, int], str]]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for counts, _ in latest.values():
        totals.update(counts)
    return totals


def _show(
    totals: Counter[str],
    settings: FleetSettings,
    *,
    trouble: str = "",
    is_last: bool = False,
    as_json: bool,
) -> None:
    """Print an object, or one line that the next one overwrites where people watch."""
    if as_json:
        line: dict[str, Any] = {"devices": settings.devices, **totals}
        click.echo(json.dumps({**line, "trouble": trouble} if trouble else line))
        sys.stdout.flush()
        return
    shown = [f"{totals[name]} {name.replace('_', ' ')}" for name in _SHOWN if totals[name] or name == "live"]
    text = f"{settings.devices} devices: {', '.join(shown)}"
    is_watched = sys.stdout.isatty()
    click.echo(f"\r\x1b[K{text}" if is_watched else text, nl=is_last or not is_watched)
    if trouble and not is_watched:
        click.echo(f"  last trouble: {trouble}", err=True)
