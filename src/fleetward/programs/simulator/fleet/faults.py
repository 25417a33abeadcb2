"""What may be wrong with a simulated device, and which devices it is wrong with."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from fleetward.base.errors import InvalidInputError
from fleetward.programs.simulator.fleet.dice import Dice


class Fault(StrEnum):
    """One thing that is wrong with a device.

    Attributes:
        OFFLINE: away for minutes at a time, keeping its readings.
        FLAPPING: loses its connection every few seconds.
        SLOW: answers late and downloads slowly.
        ROLLBACK: new firmware fails its trial.
        COMPROMISED: speaks with strangers, listens on a foreign port and tries the topics of others.
    """

    OFFLINE = "offline"
    FLAPPING = "flapping"
    SLOW = "slow"
    ROLLBACK = "rollback"
    COMPROMISED = "compromised"


_NONE: frozenset[Fault] = frozenset()


def parse_faults(texts: Iterable[str]) -> dict[Fault, float]:
    """Return the share of devices, 0 to 1, that each `KIND=SHARE` asks for; without a share it is 0.1.

    Raises:
        InvalidInputError: an unknown kind, or a share out of range.
    """
    shares: dict[Fault, float] = {}
    for text in texts:
        kind, mark, share = text.partition("=")
        if kind not in set(Fault):
            raise InvalidInputError(f"fault: expected one of {', '.join(Fault)}, found {kind[:40]!r}")
        try:
            found = float(share) if mark else 0.1
        except ValueError:
            found = -1.0
        if not 0 <= found <= 1:
            raise InvalidInputError(f"fault {kind}: expected a share from 0 to 1, found {share[:40]!r}")
        shares[Fault(kind)] = found
    return shares


def faults_of(seed: int, device: int, shares: Mapping[Fault, float]) -> frozenset[Fault]:
    """Return what is wrong with one device; the same for the same seed, whatever the size of the fleet."""
    if not shares:
        return _NONE
    found = [
        fault
        for number, fault in enumerate(Fault)
        if Dice(seed + number + 1, device).roll() < shares.get(fault, 0.0)
    ]
    return frozenset(found) if found else _NONE
