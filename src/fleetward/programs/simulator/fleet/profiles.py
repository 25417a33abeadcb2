"""What devices of a kind send: streams of telemetry, and metrics in the form of AWS IoT Device Defender.

The report is that of "Device-side metrics", version 1.0 with long names, which agents in the field speak.
Addresses stand for destinations; nothing is ever sent to them.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from fleetward.base.errors import InvalidInputError
from fleetward.programs.simulator.fleet.dice import Dice

_DAY_S = 86_400.0
_FOREIGN_PORT, _FOREIGN_ADDRESS = 6667, "198.51.100.66"


@dataclass(frozen=True)
class Signal:
    """A number that swings around a middle once a day, with noise."""

    middle: float
    swing: float
    noise: float
    digits: int = 1


@dataclass(frozen=True)
class Profile:
    """One kind of device.

    Attributes:
        telemetry_s, metrics_s: seconds between messages, unless the command line says otherwise.
        signals: fields of the telemetry stream of the profile's name.
        ports: TCP ports that listen.
        peers: remote addresses with port that a device of the kind talks to.
        bytes_out_per_s: what its network sends on the average.
    """

    name: str
    telemetry_s: float
    metrics_s: float
    signals: dict[str, Signal]
    ports: tuple[int, ...]
    peers: tuple[str, ...]
    bytes_out_per_s: float
    counters: dict[str, float] = field(default_factory=dict)


PROFILES: dict[str, Profile] = {
    one.name: one
    for one in (
        Profile(
            "camera",
            telemetry_s=30.0,
            metrics_s=300.0,
            signals={
                "celsius": Signal(41.0, 4.0, 0.6),
                "frames_per_s": Signal(25.0, 0.0, 0.4),
                "bitrate_kbit": Signal(2_400.0, 700.0, 150.0, 0),
                "illuminance_lx": Signal(420.0, 400.0, 12.0, 0),
            },
            ports=(443,),
            peers=("192.0.2.10:8883", "192.0.2.10:9443", "192.0.2.53:53"),
            bytes_out_per_s=2_000.0,
        ),
        Profile(
            "meter",
            telemetry_s=60.0,
            metrics_s=900.0,
            signals={"volt": Signal(230.0, 1.5, 0.8), "watt": Signal(900.0, 650.0, 90.0, 0)},
            ports=(),
            peers=("192.0.2.10:8883",),
            bytes_out_per_s=12.0,
            counters={"kilowatt_hours": 0.9 / 3600},
        ),
        Profile(
            "gateway",
            telemetry_s=15.0,
            metrics_s=120.0,
            signals={"clients": Signal(34.0, 20.0, 3.0, 0), "load": Signal(0.4, 0.2, 0.1, 2)},
            ports=(53, 443, 5683),
            peers=("192.0.2.10:8883", "192.0.2.10:9443", "192.0.2.53:53", "192.0.2.123:123"),
            bytes_out_per_s=40_000.0,
            counters={"uplink_bytes": 40_000.0},
        ),
    )
}


def find_profile(name: str) -> Profile:
    """Return a profile. Raises InvalidInputError when there is none of that name."""
    found = PROFILES.get(name)
    if found is None:
        raise InvalidInputError(f"profile: expected one of {', '.join(PROFILES)}, found {name[:40]!r}")
    return found


def measure(profile: Profile, dice: Dice, now_s: float, lived_s: float) -> dict[str, Any]:
    """Return one reading, of a device that has lived for `lived_s` at Unix time `now_s`."""
    wave = math.sin(2 * math.pi * (now_s % _DAY_S) / _DAY_S)
    reading: dict[str, Any] = {}
    for name, signal in profile.signals.items():
        value = signal.middle + signal.swing * wave + signal.noise * (2 * dice.roll() - 1)
        reading[name] = round(value, signal.digits) if signal.digits else round(value)
    for name, per_s in profile.counters.items():
        reading[name] = round(per_s * lived_s, 3)
    return reading


def report_metrics(
    profile: Profile, dice: Dice, *, report_id: int, span_s: float, is_compromised: bool
) -> dict[str, Any]:
    """Return a Device Defender report over the last `span_s` seconds.

    A compromised device listens on a port and speaks with an address that its kind does not know.
    """
    ports = (*profile.ports, _FOREIGN_PORT) if is_compromised else profile.ports
    peers = (*profile.peers, f"{_FOREIGN_ADDRESS}:{_FOREIGN_PORT}") if is_compromised else profile.peers
    times = 20.0 if is_compromised else 1.0
    sent = round(profile.bytes_out_per_s * span_s * dice.between(0.8, 1.2) * times)
    received = round(sent * dice.between(0.05, 0.1))
    return {
        "header": {"report_id": report_id, "version": "1.0"},
        "metrics": {
            "listening_tcp_ports": {
                "ports": [{"interface": "eth0", "port": port} for port in ports],
                "total": len(ports),
            },
            "listening_udp_ports": {"ports": [], "total": 0},
            "network_stats": {
                "bytes_in": received,
                "bytes_out": sent,
                "packets_in": received // 600 + 1,
                "packets_out": sent // 900 + 1,
            },
            "tcp_connections": {
                "established_connections": {
                    "connections": [{"remote_addr": peer} for peer in peers],
                    "total": len(peers),
                }
            },
        },
    }
