"""An agent that is killed at any moment of its enrollment or renewal, and must come back by itself."""

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec

from fleetward.base.files import write_secret
from fleetward.features.enrollment.device.state import parse_memory, render_memory
from fleetward.programs.agent.run import run_agent
from support.agent_platform import AgentHost, SmallPlatform
from support.forking import start_fork

_LONG = timedelta(days=30)


class NotRecoveredError(Exception):
    """A device that was killed does not do its duty again."""


@dataclass
class ForkedHost(AgentHost):
    """A host whose agents start in milliseconds: forked from a process that has imported them already.

    Attributes:
        patience_s: within this time a killed device must be back.
    """

    fork: BaseProcess | None = None
    patience_s: float = 60.0

    def start(self) -> None:
        self.config.status_file.unlink(missing_ok=True)
        self.fork = start_fork(_run, self.config_file, self.folder / "agent.log")

    def kill(self) -> None:
        if self.fork is not None:
            self.fork.kill()
            self.fork.join()
            self.fork = None

    def await_rest(self) -> None:
        """Return once it is connected and has one certificate with its key, and nothing else left over.

        Raises:
            NotRecoveredError: the agent ended, or did not get there.
        """
        deadline_s = time.monotonic() + self.patience_s
        while not self._is_at_rest():
            if self.fork is None or not self.fork.is_alive() or time.monotonic() > deadline_s:
                found = f"{self.status}, {self.log_events()[-5:]}"
                raise NotRecoveredError(f"{self.device_id}: expected a session and one key, found {found}")
            time.sleep(0.01)

    def age(self) -> str:
        """Let so much time have passed that renewal is due; return the label of the certificate it has."""
        path = self.config.state_dir / "enrollment.json"
        memory = parse_memory(path.read_bytes())
        assert memory.current is not None
        assert memory.pending is None
        aged = msgspec.structs.replace(memory.current, obtained_at=memory.current.obtained_at - _LONG)
        write_secret(path, render_memory(msgspec.structs.replace(memory, current=aged)))
        return aged.label

    def _is_at_rest(self) -> bool:
        enrollment = self.status.get("enrollment", {})
        return (
            self.status.get("session", {}).get("connected", False)
            and enrollment["phase"] == "enrolled"
            and not (self.folder / "claim").exists()
            and self._labels("keys", ".key.pem") == {enrollment["certificate"]}
            and self._labels("state/certificates", ".pem") == {enrollment["certificate"]}
        )

    def _labels(self, folder: str, suffix: str) -> set[str]:
        return {path.name.removesuffix(suffix) for path in (self.folder / folder).glob(f"device-*{suffix}")}


def kill_enrolling(platform: SmallPlatform, folder: Path, device: str, delay_s: float | None) -> float:
    """Kill a new device `delay_s` after its first start (None: never); return how long it then took to rest.

    Raises:
        NotRecoveredError: it did not enroll after the kill.
    """
    host = ForkedHost(platform.where, device, folder)
    try:
        host.give_claim(platform.add_device(device))
        return _kill_and_recover(host, delay_s)
    finally:
        host.kill()


def kill_renewing(host: ForkedHost, delay_s: float | None) -> float:
    """Kill a device at rest `delay_s` after a start at which its renewal is due; as `kill_enrolling`."""
    before = host.age()
    try:
        took_s = _kill_and_recover(host, delay_s)
    finally:
        host.kill()
    if host.age() == before:
        raise NotRecoveredError(f"{host.device_id}: expected a new certificate, found {before}")
    return took_s


def _kill_and_recover(host: ForkedHost, delay_s: float | None) -> float:
    if delay_s is not None:
        host.start()
        time.sleep(delay_s)
        host.kill()
    host.start()
    start_s = time.monotonic()
    host.await_rest()
    return time.monotonic() - start_s


def _run(config_file: Path, log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for output in (1, 2):
        os.dup2(descriptor, output)
    os._exit(run_agent(config_file))
