"""A whole platform of the test's own: `fleetward up` as users run it, on ports nobody else has."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetward.outside.http.platform import Api, find_platform
from support.ports import free_ports

_START_TIMEOUT_S = 90
_PORT_TRIES = 5
_STOP_TIMEOUT_S = 30


@dataclass
class Platform:
    """A running platform and how to talk to it."""

    data: Path
    port_base: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def api(self) -> Api:
        return find_platform(self.data)

    @property
    def ready(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "ready.json").read_text())
        return found

    @property
    def ca_file(self) -> Path:
        return Path(self.ready["ca_file"])

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `fleetward --data DIR …` and return what it printed."""
        command = [sys.executable, "-m", "fleetward", "--data", str(self.data), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=120)

    def run_json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def events(self, **filters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get("/events", limit=5000, **filters)["events"]
        return found

    def wait_for_event(
        self, kind: str, *, device: str | None = None, timeout_s: float = 30, **details: Any
    ) -> Any:
        """Return the first event of `kind` with these details; fail with what there was instead."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.events(device=device)
            for event in found:
                if event["kind"] == kind and all(event["details"].get(k) == v for k, v in details.items()):
                    return event
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"no {kind} {details} for {device} in {[(e['kind'], e['message']) for e in found]}"
                )
            time.sleep(0.1)

    def kill(self, *, with_broker: bool = True) -> None:
        """End the platform by SIGKILL, and its nats-server, which otherwise lives on."""
        brokers = self._brokers() if with_broker else []
        os.killpg(self.process.pid, signal.SIGKILL)
        for pid in brokers:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(_STOP_TIMEOUT_S)
        (self.data / "ready.json").unlink(missing_ok=True)

    def kill_broker(self) -> None:
        """End nats-server by SIGKILL; the platform starts another."""
        for pid in self._brokers():
            os.kill(pid, signal.SIGKILL)

    def _brokers(self) -> list[int]:
        pid = self.process.pid
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [one for one in children if b"nats-server" in Path(f"/proc/{one}/cmdline").read_bytes()]

    def start(self) -> None:
        """Start it again from the same folder and ports."""
        self.process = _spawn(self.data, self.port_base, self.log)
        _await_ready(self)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


@contextmanager
def running_platform(folder: Path) -> Iterator[Platform]:
    """Yield a fresh platform without the demo; it is stopped cleanly afterwards."""
    data, log = folder / "data", folder / "platform.log"
    platform = _start_where_free(data, log)
    try:
        yield platform
    finally:
        platform.stop()


@contextmanager
def restarted_from(data: Path, log: Path) -> Iterator[Platform]:
    """Yield the platform of a folder that is there already, on ports of its own; it is stopped afterwards."""
    platform = Platform(data, base := free_ports(5), _spawn(data, base, log), log)
    try:
        _await_ready(platform)
        yield platform
    finally:
        platform.stop()


def _start_where_free(data: Path, log: Path) -> Platform:
    """Start a platform; somebody else may take one of its ports between our look and its own."""
    for _ in range(_PORT_TRIES):
        base = free_ports(5)
        platform = Platform(data, base, _spawn(data, base, log), log)
        try:
            _await_ready(platform)
        except AssertionError:
            platform.stop()
            if "found it in use" not in log.read_text():
                raise
            shutil.rmtree(data)  # what was shown once at its making must be in the log that is kept
            log.unlink()
        else:
            return platform
    raise AssertionError(f"no free ports after {_PORT_TRIES} tries")


def _spawn(data: Path, base: int, log: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "fleetward", "up", "--data", str(data), "--port-base", str(base), "--no-demo",
        "--trust-domain", "fleet.test",
    ]  # fmt: skip
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def _await_ready(platform: Platform) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not (platform.data / "ready.json").exists():
        if platform.process.poll() is not None or time.monotonic() > deadline:
            platform.kill() if platform.process.poll() is None else None
            raise AssertionError(f"platform did not start:\n{platform.log.read_text()[-4000:]}")
        time.sleep(0.05)
