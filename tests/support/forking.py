"""Processes that begin as a copy of one that has imported what a device runs: starting costs milliseconds."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["support.update_faults", "support.agent_faults"])


def start_fork(run: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Return a process that has just begun `run`. It may be killed; join it afterwards."""
    _ensure_server()
    hearing, telling = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_run, args=(telling, run, arguments), daemon=True)
    process.start()
    telling.close()
    hearing.recv()
    hearing.close()
    return process


def _ensure_server() -> None:
    """Start the process that is copied, once; it looks for what it imports where its environment says."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _run(telling: Any, run: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    telling.send(None)
    telling.close()
    run(*arguments)
