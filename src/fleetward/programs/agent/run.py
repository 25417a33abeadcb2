"""Runs the agent until it is told to stop.

Killed at any moment, the next start goes on from what is on disk.
"""

import fcntl
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fleetward.base.clock import SystemClock
from fleetward.base.errors import ConfigError, ConflictError
from fleetward.outside.http.device import DeviceHttp
from fleetward.programs.agent.abilities.ability import Ability
from fleetward.programs.agent.abilities.all import ABILITIES, sections_of
from fleetward.programs.agent.agent import Agent
from fleetward.programs.agent.clock import DeviceClock
from fleetward.programs.agent.config import load_agent_config
from fleetward.programs.agent.log import AgentLog
from fleetward.programs.agent.loop import Loop
from fleetward.programs.agent.parts import Parts

EXIT_REBOOT = 75


def run_agent(
    config_path: Path, *, degraded: bool = False, abilities: Sequence[type[Ability]] = ABILITIES
) -> int:
    """Run the agent of the settings in `config_path`; return its exit code.

    0 after SIGTERM or SIGINT, 75 when the device shall reboot. `degraded` says that the boot stage found no
    firmware it may start.

    Raises:
        ConfigError: the settings or the state folder cannot be used.
        ConflictError: another agent runs on the state folder.
        CorruptDataError: the enrollment state is not what the agent wrote.
    """
    config = load_agent_config(config_path, sections=sections_of(abilities))
    with _only_one(config.state_dir):
        clock = DeviceClock(SystemClock())
        loop = Loop()
        log = AgentLog(clock, level=config.log_level)
        parts = Parts(config, clock, loop, log, DeviceHttp(config.server, config.ca_file))
        agent = Agent(parts, is_degraded=degraded, abilities=abilities)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: loop.stop())
        agent.start()
        try:
            loop.run()
        finally:
            agent.stop()
        return EXIT_REBOOT if agent.is_reboot_wanted else 0


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state folder for one agent; the lock goes with the process, however it ends."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "agent.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise ConfigError(
            f"state_dir: expected {state_dir} to be writable, found: {error.strerror}"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConflictError(
            f"{state_dir}: expected no other agent on this folder, found one running"
        ) from error
    finally:
        os.close(descriptor)
