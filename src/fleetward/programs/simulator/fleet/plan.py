"""What a process of the fleet is to simulate, and what it keeps for each device."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetward.programs.simulator.fleet.device import Behaviour, FleetDevice
from fleetward.programs.simulator.fleet.dice import Dice
from fleetward.programs.simulator.fleet.faults import Fault
from fleetward.programs.simulator.fleet.identities import Identity
from fleetward.programs.simulator.fleet.line import Line
from fleetward.programs.simulator.fleet.upkeep import Trust
from fleetward.wire import mqtt_packets as mqtt


@dataclass(frozen=True)
class ShardPlan:
    """What one process is to simulate.

    Attributes:
        devices: ids with their numbers in the fleet.
        neighbours: ids, by number, that compromised devices trouble.
        update_s: seconds between looks for a release; 0 looks only when told to.
    """

    folder: Path
    number: int
    server: str
    mqtt: str
    ca_file: Path
    seed: int
    devices: Sequence[tuple[int, str]]
    size: int
    prefix: str
    behaviour: Behaviour
    faults: dict[Fault, float]
    trust: Trust
    firmware: str
    update_s: float


class Slot:
    """A device with what this process keeps for it."""

    __slots__ = (
        "attempts",
        "device",
        "dice",
        "failed_firmware",
        "identity",
        "line",
        "planned_at",
        "reader",
    )

    def __init__(self, device: FleetDevice, dice: Dice, identity: Identity) -> None:
        self.device, self.dice, self.identity = device, dice, identity
        self.line: Line | None = None
        self.reader = mqtt.PacketReader()
        self.planned_at = 0.0
        self.attempts = 0
        self.failed_firmware = ""


def device_id(prefix: str, number: int) -> str:
    return f"{prefix}-{number:06d}"
