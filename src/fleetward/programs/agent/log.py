"""The agent's log: one JSON object a line to standard error, as `base.logging` writes it on the server.

The server's library is left out for its size in memory. Warnings and errors also go to the platform, so that
what is odd on a device is seen there.
"""

import json
import sys
from collections.abc import Callable
from typing import TextIO

from fleetward.base.clock import Clock, render_time

_RANK = {"debug": 0, "info": 1, "warning": 2, "error": 3}
_SECRET_FIELDS = frozenset({"token", "claim", "password", "pin", "secret", "private_key", "authorization"})

Forward = Callable[[dict[str, object]], None]


class AgentLog:
    """Writes events with a constant name and fields.

    Attributes:
        forward: gets warnings and errors besides; None until there is a queue for them.
    """

    def __init__(self, clock: Clock, *, level: str = "info", out: TextIO | None = None) -> None:
        self.forward: Forward | None = None
        self._clock = clock
        self._lowest = _RANK[level]
        self._out = out or sys.stderr
        self._lost = 0

    def debug(self, event: str, **fields: object) -> None:
        self._write("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        shown = {name: "[redacted]" if name in _SECRET_FIELDS else value for name, value in fields.items()}
        entry: dict[str, object] = {"event": event, "level": level, **shown}
        if _RANK[level] >= self._lowest:
            at = render_time(self._clock.now())
            self._print({"timestamp": at, "room": "agent", **entry})
        if self.forward is not None and _RANK[level] >= _RANK["warning"]:
            self.forward(entry)

    def _print(self, line: dict[str, object]) -> None:
        """Write a line; a log whose disk is full ends no device, and the next line that fits says so."""
        if self._lost:
            line = {**line, "lines_lost_before": self._lost}
        try:
            self._out.write(json.dumps(line, default=str) + "\n")
            self._out.flush()
            self._lost = 0
        except OSError:
            self._lost += 1
