"""All that answers "why?" about one device, as values; and what an answer is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fleetward.base.clock import parse_time
from fleetward.features.attestation.model import Appraisal
from fleetward.features.devices.model import Device, Model
from fleetward.features.messaging.model import Asked, Hold, Presence
from fleetward.features.overview.model.firmware import FirmwareStatus
from fleetward.features.pki.model import CertificateRecord


class Question(StrEnum):
    """What is asked about a device; part of the HTTP contract."""

    CONNECTED = "connected"
    DENIED = "denied"
    OFFLINE = "offline"
    NOT_UPDATING = "not_updating"
    NO_VIDEO = "no_video"


@dataclass(frozen=True)
class Told:
    """An event about the device: what happened, and its reason code where it has one."""

    at: datetime
    kind: str
    message: str
    reason: str = ""


@dataclass(frozen=True)
class Fact:
    """Something known, and whether it speaks for the device."""

    what: str
    value: str
    good: bool = field(kw_only=True)


@dataclass(frozen=True)
class Answer:
    """One question and what the facts say.

    Attributes:
        good: nothing needs mending.
        code: names the cause for machines, e.g. a RefusalCode or `update_refused`.
        fix: what to do, "" when nothing is to be done.
        command: the command line that does it or looks closer, "" when there is none.
    """

    question: Question
    good: bool = field(kw_only=True)
    code: str
    answer: str
    facts: tuple[Fact, ...]
    fix: str = ""
    command: str = ""


@dataclass(frozen=True)
class Situation:
    """What is known of a device at `now`.

    Attributes:
        gates: what each gate of a session says, on the best certificate it has.
        holds: what rooms hold it for.
        certificates: newest first.
        appraisal: the last one, good or bad.
        presence: None when it never had a session.
        refused: the last time a connection of it was refused.
        trouble: the last thing its update machine told, well or badly.
    """

    now: datetime
    device: Device
    model: Model
    gates: Sequence[Asked]
    holds: Sequence[Hold]
    certificates: Sequence[CertificateRecord]
    appraisal: Appraisal | None
    presence: Presence | None
    refused: Told | None
    firmware: FirmwareStatus
    trouble: Told | None

    @property
    def is_connected(self) -> bool:
        return self.presence is not None and self.presence.is_connected

    @property
    def has_live_certificate(self) -> bool:
        return any(one.is_live(self.now) for one in self.certificates)

    def is_open(self, gate: str) -> bool:
        """Whether the gate of this name is open."""
        return any(asked.gate.name == gate and asked.refusal is None for asked in self.gates)

    @property
    def is_refused_since_last_seen(self) -> bool:
        """Whether it came and was turned away after its last session ended."""
        if self.refused is None:
            return False
        if self.presence is None or not self.presence.since:
            return True
        return self.refused.at > parse_time(self.presence.since)
