"""A queue on a disk that loses its power: which of its messages are there afterwards."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fleetward.outside.spool.spool import Kind, Spool
from support.lossy_disk import TRACE_CALLS, TRACE_OPTIONS, LossyDisk, Op, record

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TOPIC = "d/cam-1/t"
_CALLS = f"write,pwrite64,fsync,fdatasync,rename,unlink,mkdir,ftruncate,{TRACE_CALLS}"
_STRACE = ("strace", "-qq", "-f", "-e", f"trace={_CALLS}")


def record_acts(folder: Path, *acts: str) -> list[Op]:
    """Return the storage calls of a queue in `folder` that does `acts` (as `_act`), then dies.

    The calls end where the last act had returned: what it promises holds from there on.
    """
    trace = folder.with_suffix(".trace")
    folder.mkdir()
    done = subprocess.run(
        [*_STRACE, *TRACE_OPTIONS, "-o", str(trace), sys.executable, "-m", "support.spool_faults",
         str(folder / "spool"), *acts],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
        check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr.decode()
    return record(trace.read_text())


def cut_power(folder: Path, ops: list[Op], *, cuts: int, seed: str, at_end: bool) -> Iterator[Spool]:
    """Yield the queue that each of `cuts` power cuts leaves; after the last call, or anywhere.

    Print the seed on a failure's account: the same one cuts the same way.
    """
    target = folder.with_suffix(".cut")
    shutil.rmtree(folder)
    folder.mkdir()
    for number in range(cuts):
        dice = random.Random(f"{seed}-{number}")
        disk = LossyDisk(folder)
        for op in ops[: len(ops) if at_end else dice.randrange(len(ops))]:
            disk.play(op)
        disk.cut_power(target, dice)
        with Spool(target / "spool", max_bytes=1 << 20) as spool:
            yield spool


def _act(spool: Spool, act: str) -> None:
    name, _, rest = act.partition(":")
    if name == "put":
        kind, _, payload = rest.partition("=")
        spool.put(Kind[kind], TOPIC, payload.encode(), NOW)
    elif name == "commit":
        assert spool.commit()
    elif name == "remove":
        spool.remove(item.id for item in spool.take(100) if item.payload == rest.encode())
    elif name == "gap":
        [gap] = spool.gaps()
        assert spool.replace_gap(gap, Kind.LOG, TOPIC, b"gap", NOW)


def main() -> None:
    """Do what the command line says; `max:N` first bounds the queue."""
    path, *acts = sys.argv[1:]
    max_bytes = 1 << 20
    if acts[0].startswith("max:"):
        max_bytes = int(acts.pop(0)[4:])
    spool = Spool(Path(path), max_bytes=max_bytes)
    for act in acts:
        _act(spool, act)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
