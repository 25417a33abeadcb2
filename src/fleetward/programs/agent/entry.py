"""Reads `agent run …` without the command line's library: the agent would keep it, a megabyte, for good."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """What `fleetward agent run` is asked."""

    config: Path
    is_degraded: bool


def parse_run(arguments: Sequence[str]) -> Run | None:
    """Return what is asked; None for anything but a right `agent run`: the command line answers that."""
    if list(arguments[:2]) != ["agent", "run"]:
        return None
    config, is_degraded, rest = "", False, list(arguments[2:])
    while rest:
        match rest.pop(0).split("=", 1):
            case ["--degraded"]:
                is_degraded = True
            case ["--config"] if rest:
                config = rest.pop(0)
            case ["--config", path]:
                config = path
            case _:
                return None
    return Run(Path(config), is_degraded) if config and not Path(config).is_dir() else None
