"""Backups and restores whose power is cut at a named point, in processes of their own."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleetward.base.clock import SystemClock
from fleetward.base.config import load_config
from fleetward.base.layout import DataFolder
from fleetward.outside.sealed.age import SealedWriter
from fleetward.programs.server import backup, restoring
from fleetward.programs.server.doors import SETTINGS
from support.forking import start_fork

PHRASE = b"correct horse battery"
# Where the power can be cut.
POINTS: dict[str, tuple[Any, str]] = {
    "piece": (SealedWriter, "_seal"),
    "rows": (backup, "_remove_rows"),
    "verifying": (backup, "verify_archive"),
    "recording": (backup, "_record"),
    "file": (restoring, "_write_file"),
    "streams": (restoring, "_write_streams"),
    "finishing": (restoring, "_finish"),
}


def take(data: Path, file: Path) -> backup.Taken:
    folder = DataFolder(data)
    return backup.take_backup(folder, load_config(folder, SETTINGS), file, PHRASE, SystemClock())


def put_back(data: Path, file: Path, phrase: bytes = PHRASE) -> restoring.Restored:
    return restoring.restore_backup(DataFolder(data), file, phrase, SystemClock())


def cut(act: Callable[[Path, Path], object], data: Path, file: Path, point: str, nth: int) -> None:
    """Have `take` or `put_back` die by SIGKILL as it comes to a point for the nth time."""
    process = start_fork(_die_at, act, data, file, point, nth)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, process.exitcode


def _die_at(act: Callable[[Path, Path], object], data: Path, file: Path, point: str, nth: int) -> None:
    owner, name = POINTS[point]
    whole, calls = getattr(owner, name), iter(range(1, nth + 1))

    def die(*arguments: Any, **named: Any) -> Any:
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments, **named)

    setattr(owner, name, die)
    act(data, file)
