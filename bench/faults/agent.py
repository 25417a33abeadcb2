"""An agent killed at any moment of enrollment and renewal, beside real EST over TLS and a real broker."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.faults.outcome import Outcome
from support.agent_faults import ForkedHost, NotRecoveredError, kill_enrolling, kill_renewing
from support.agent_platform import small_platform

# Renewing devices take turns: the broker holds back an id that comes again at once.
_DEVICES = 8


def kill_enrollments(folder: Path, seed: int, count: int) -> Iterator[Outcome]:
    """Kill `count` new devices, each at another moment between its start and its first quiet minute."""
    with small_platform(folder) as platform:
        kill_enrolling(platform, folder / "first", "enroll-first", None)
        took_s = kill_enrolling(platform, folder / "second", "enroll-second", None)
        for number in range(count):
            device = f"enroll-{number}"
            delay_s = random.Random(f"{seed}-{number}").uniform(0, took_s)

            def kill(device: str = device, delay_s: float = delay_s) -> object:
                return kill_enrolling(platform, folder / device, device, delay_s)

            yield _outcome(f"{device} killed after {delay_s * 1000:.1f} ms", kill, "kills in enrollments")


def kill_renewals(folder: Path, seed: int, count: int) -> Iterator[Outcome]:
    """Kill devices `count` times, each at another moment of a start at which renewal is due."""
    with small_platform(folder) as platform:
        hosts = []
        for number in range(_DEVICES):
            device = f"renew-{number}"
            kill_enrolling(platform, folder / device, device, None)
            hosts.append(ForkedHost(platform.where, device, folder / device))
        took_s = max(kill_renewing(host, None) for host in hosts[:2])
        for number in range(count):
            host = hosts[number % _DEVICES]
            delay_s = random.Random(f"{seed}-{number}").uniform(0, took_s)

            def kill(host: ForkedHost = host, delay_s: float = delay_s) -> object:
                return kill_renewing(host, delay_s)

            case = f"{host.device_id}, renewal {number}, killed after {delay_s * 1000:.1f} ms"
            yield _outcome(case, kill, "kills in renewals")


def _outcome(case: str, kill: Callable[[], object], what: str) -> Outcome:
    try:
        kill()
    except NotRecoveredError as error:
        return Outcome(case, str(error), {what: 1})
    return Outcome(case, "", {what: 1})
