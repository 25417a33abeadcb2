"""A device that is killed, or loses power, anywhere in an update.

`live` plays the whole update in one process: boot, check, download, verify, write, switch, reboot, trial,
confirm. It is killed at storage system calls or at any moment; what it leaves must boot verified
firmware, and living on must finish the update.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleetward.base.errors import CorruptDataError, FleetwardError
from fleetward.features.updates.boot.selection import BootRules, select
from fleetward.features.updates.ports import Download
from fleetward.migrations.runner import migrate
from fleetward.programs.agent.pinned import load_pinned_keys
from fleetward.wire import update_paths as paths
from support.clock import ManualClock
from support.database import open_database
from support.forking import start_fork
from support.lossy_disk import TRACE_CALLS, TRACE_OPTIONS, LossyDisk, Op, record
from support.update_device import Answer, Device
from support.updates import MODEL, make_publisher

_STRACE = ("strace", "-qq", "-f")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NEW_COUNTER = 2
_MAX_BOOTS = 12
_CHUNK_BYTES = 16 * 1024
# What changes storage. Starting Python makes none of these calls once what it imports is compiled.
STORAGE_CALLS = "write,pwrite64,fsync,fdatasync,rename,unlink,mkdir,symlink,ftruncate"


@dataclass(frozen=True)
class FolderFetcher:
    """An `ArtifactFetcher` that reads the platform's blobs from disk: the same calls each time."""

    blobs: Path

    @contextmanager
    def __call__(self, path: str, *, offset: int = 0) -> Iterator[Download]:
        kind, _, name = path.removeprefix(f"{paths.PREFIX}/{MODEL}/").partition("/")
        blob = paths.metadata_blob(MODEL, name) if kind == "metadata" else paths.target_blob(MODEL, name)[0]
        if not (self.blobs / blob).exists():
            yield Answer(404, {}, iter(()))
            return
        content = (self.blobs / blob).read_bytes()
        headers = {"content-range": f"bytes {offset}-{len(content) - 1}/{len(content)}"} if offset else {}
        chunks = (content[at : at + _CHUNK_BYTES] for at in range(offset, len(content), _CHUNK_BYTES))
        yield Answer(206 if offset else 200, headers, chunks)


@dataclass(frozen=True)
class World:
    """A platform with two releases, and a device as it left the factory with the first."""

    folder: Path
    old: bytes
    new: bytes

    @property
    def blobs(self) -> Path:
        return self.folder / "platform" / "blobs"

    @property
    def run(self) -> Path:
        """The device that lives and dies."""
        return self.folder / "run"

    def reset(self) -> None:
        """Take a new device out of its box."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.folder / "device", self.run, symlinks=True)


def make_world(folder: Path, *, image_bytes: int) -> World:
    clock = ManualClock(NOW)
    database = open_database(f"sqlite:///{folder / 'fleetward.sqlite3'}", clock)
    migrate(database)
    publisher = make_publisher(folder / "platform", database, MODEL)
    old, new = random.randbytes(image_bytes), random.randbytes(image_bytes + 777)
    first = publisher.publish("1.0.0", old)
    Device.provision(folder / "device", publisher, first, old, clock)
    publisher.publish("1.1.0", new)
    database.close()
    world = World(folder, old, new)
    world.reset()
    subprocess.run(_life_command(world), env=_life_environment(world), check=True)  # compiles what it imports
    return world


def live(run: Path, blobs: Path) -> int:
    """Play the update to its end from wherever it stands; return how many boots it took.

    Raises:
        AssertionError: nothing verified boots, or it does not end.
    """
    device = Device(run, ManualClock(NOW))
    for boots in range(1, _MAX_BOOTS):
        start = device.boot()
        assert start.selection.chosen is not None, start.selection.refused
        runner = device.runner(FolderFetcher(blobs))
        before = len(device.reboots)
        if start.selection.is_trial:
            runner.report_health(is_healthy=True)
        device.run(runner, lambda: len(device.reboots) > before or is_done(device))  # noqa: B023
        if is_done(device):
            return boots
    raise AssertionError(f"no end after {_MAX_BOOTS} boots: {device.reports[-3:]}, {device.told}")


def is_done(device: Device) -> bool:
    return device.counter.read_counter() == NEW_COUNTER and bool(device.reports) and device.state == "idle"


def find_flaw(world: World, run: Path) -> str:
    """Return what is wrong with a device that lost its power; "" when it boots verified firmware."""
    device = Device(run, ManualClock(NOW))
    try:
        counter = device.counter.read_counter()
    except CorruptDataError as error:
        return f"unbootable: {error.message}"
    rules = BootRules(load_pinned_keys(device.firmware.keys_file), MODEL, counter)
    selection = select(device.pointer, device.slots.read, rules)
    if selection.chosen is None:
        return f"unbootable: {[one.message for one in selection.refused]}"
    image = device.holds(selection.chosen.slot)
    wanted = {"1.0.0": world.old, "1.1.0": world.new}[selection.chosen.manifest.version]
    return "" if image == wanted else f"slot {selection.chosen.slot} would run unverified firmware"


def find_flaw_after_recovery(world: World, run: Path) -> str:
    """Return what is wrong after living on; "" when the update was finished."""
    try:
        live(run, world.blobs)
    except (AssertionError, FleetwardError) as error:
        return f"not recovered: {error}"
    device = Device(run, ManualClock(NOW))
    pointer = device.pointer
    if pointer is None or pointer.trial is not None or device.holds(pointer.active) != world.new:
        return f"recovered to {pointer}, not to the new firmware"
    return ""


def list_kill_points(world: World) -> list[tuple[str, int]]:
    """Return every storage call of a life as (name, how manieth of that name)."""
    seen: Counter[str] = Counter()
    points = []
    for line in _trace_life(world).splitlines():
        found = re.match(r"\d+ +(\w+)\(", line)
        if found:
            seen[found[1]] += 1
            points.append((found[1], seen[found[1]]))
    return points


def kill_at_call(world: World, call: str, number: int) -> bool:
    """Live until the n-th `call` and die before it takes effect; return False when life was over before."""
    world.reset()
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    traced = [*_STRACE, "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    done = subprocess.run(
        [*traced, *_life_command(world)], env=_life_environment(world), capture_output=True, check=False
    )
    if done.returncode == 0:
        return False
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr.decode()
    return True


def cut_power(
    world: World, ops: Sequence[Op], *, cuts: int, seed: str, recover_every: int = 1
) -> Iterator[tuple[str, str]]:
    """Yield case and flaw of `cuts` power cuts on a lossy disk, spread over the calls that changed it.

    Args:
        ops: of `record_life`.
        recover_every: live on after every n-th cut only; all are asked what would boot.
    """
    world.reset()
    target, disk = world.folder / "cut", LossyDisk(world.run)
    changes = sum(map(disk.play, ops))
    disk, number, passed = LossyDisk(world.run), 0, 0
    for position, op in enumerate(ops):
        if not disk.play(op):
            continue
        passed += 1
        while number * changes < passed * cuts:
            disk.cut_power(target, random.Random(f"{seed}-{number}"))
            flaw = find_flaw(world, target)
            if not flaw and number % recover_every == 0:
                flaw = find_flaw_after_recovery(world, target)
            yield f"cut {number} after call {position} ({op[0]})", flaw
            number += 1


def kill_at_moment(world: World, delay_s: float) -> bool:
    """Live for `delay_s` and die; return False when life was over before."""
    world.reset()
    life = start_fork(live, world.run, world.blobs)
    life.join(delay_s)
    is_alive = life.is_alive()
    life.kill()
    life.join()
    return is_alive


def measure_life(world: World) -> float:
    """Return how long a life lasts that nobody ends, in seconds."""
    world.reset()
    life = start_fork(live, world.run, world.blobs)
    start_s = time.monotonic()
    life.join()
    assert life.exitcode == 0
    return time.monotonic() - start_s


def record_life(world: World, *, planted_bug: str = "") -> list[Op]:
    """Return what a lossy disk must know of a life; with the bug "nofsync", of one that syncs nothing."""
    calls = f"{STORAGE_CALLS},{TRACE_CALLS}"
    return record(_trace_life(world, calls=calls, options=TRACE_OPTIONS, planted_bug=planted_bug))


def _trace_life(
    world: World, *, calls: str = STORAGE_CALLS, options: Sequence[str] = (), planted_bug: str = ""
) -> str:
    """Live once under strace and return its output."""
    world.reset()
    output = world.folder / "trace"
    traced = [*_STRACE, "-o", str(output), "-e", f"trace={calls}", *options]
    subprocess.run(
        [*traced, *_life_command(world)],
        env=_life_environment(world, planted_bug),
        capture_output=True,
        check=True,
    )
    return output.read_text()


def _life_command(world: World) -> list[str]:
    return [sys.executable, "-m", "support.update_faults", str(world.run), str(world.blobs)]


def _life_environment(world: World, planted_bug: str = "") -> dict[str, str]:
    folder = str(Path(__file__).parents[1])
    compiled = str(world.folder / "compiled")
    return {
        **os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled,
        "PLANTED_BUG": planted_bug,
    }  # fmt: skip


def main() -> None:
    """Live once; with PLANTED_BUG=nofsync on a disk whose fsync does nothing."""
    if os.environ["PLANTED_BUG"] == "nofsync":
        os.fsync = lambda fd: None  # noqa: ARG005 - the real one's signature
    live(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
