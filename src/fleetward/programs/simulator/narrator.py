"""Tells the camera's life as it happens: for people a line a step, with `--json` an object a line."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from fleetward.base.terminal import say


class Narrator:
    """Says what happens, and how long it took."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    @contextmanager
    def step(self, name: str, title: str) -> Iterator["Step"]:
        """Tell of one step: done when the block ends, failed when it raises."""
        step = Step(name, title)
        started = time.monotonic()
        try:
            yield step
        except BaseException as error:
            self._say(step, time.monotonic() - started, failed=str(error) or type(error).__name__)
            raise
        self._say(step, time.monotonic() - started, failed=None)

    def say(self, text: str = "") -> None:
        """Say something to people; machines need not hear it."""
        if not self._as_json:
            say(text)

    def _say(self, step: "Step", took_s: float, *, failed: str | None) -> None:
        if self._as_json:
            line = {"step": step.name, "ok": failed is None, "message": failed or step.result,
                    "seconds": round(took_s, 2), **step.facts}  # fmt: skip
            click.echo(json.dumps(line))
        else:
            mark = click.style("✗", fg="red") if failed else click.style("✓", fg="green")
            text = failed or step.result
            say(f" {mark} {click.style(step.title, bold=True):<34} {text}  "
                f"{click.style(f'{took_s:.1f} s', dim=True)}")  # fmt: skip
        sys.stdout.flush()


class Step:
    """One step. `result` is the sentence told when it is done; `facts` go into the JSON line."""

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self.result = ""
        self.facts: dict[str, object] = {}
