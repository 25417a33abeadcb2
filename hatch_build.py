"""Refuses to build a distribution without the console, which git does not hold."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PAGE = "src/fleetward/programs/server/console/index.html"
_EDITABLE = "editable"


class ConsoleHook(BuildHookInterface[Any]):
    """Called by hatchling before it builds; see [tool.hatch.build.hooks.custom]."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del build_data
        if version != _EDITABLE and not (Path(self.root) / _PAGE).is_file():
            raise SystemExit(
                f"fleetward: expected the built console at {_PAGE}, found none.\n"
                "Build it first, where npm can be reached: ./dev console. Or all at once: ./dev wheel"
            )
