"""Events the update machine takes and commands it gives."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from fleetward.features.updates.boot.pointer import BootPointer, Slot
from fleetward.features.updates.boot.record import BootRecord
from fleetward.features.updates.device.memory import Candidate, ImageTarget


class Trouble(StrEnum):
    """Why a download stopped."""

    NETWORK = "network"
    DISK_FULL = "disk_full"
    MISMATCH = "mismatch"


@dataclass(frozen=True)
class Started:
    """The agent runs. `counter` is the anti-rollback counter; `pointer` is None when it is damaged."""

    boot: BootRecord
    pointer: BootPointer | None
    counter: int


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True)
class CheckAsked:
    """The platform says there may be something new."""


@dataclass(frozen=True)
class Offered:
    """TUF vouches for this manifest envelope as the model's current one; None when there is no release."""

    envelope: bytes | None


@dataclass(frozen=True)
class CheckFailed:
    """`is_refusal`: the metadata was there and is not to be trusted, rather than out of reach."""

    reason: str
    is_refusal: bool = False


@dataclass(frozen=True)
class Located:
    """TUF vouches for this image as the one of the version asked for; None when it knows none."""

    target: ImageTarget | None


@dataclass(frozen=True)
class Progressed:
    received: int


@dataclass(frozen=True)
class Downloaded:
    pass


@dataclass(frozen=True)
class DownloadFailed:
    reason: str
    trouble: Trouble


@dataclass(frozen=True)
class Verified:
    """The downloaded file has the length and the digests of TUF and of the manifest."""


@dataclass(frozen=True)
class VerifyFailed:
    reason: str


@dataclass(frozen=True)
class Written:
    pass


@dataclass(frozen=True)
class WriteFailed:
    """Slot, pointer or counter could not be written."""

    reason: str


@dataclass(frozen=True)
class Switched:
    pass


@dataclass(frozen=True)
class HealthReported:
    """What the application says of itself, or what is seen of it."""

    is_healthy: bool
    reason: str = ""


@dataclass(frozen=True)
class Confirmed:
    """The pointer starts the new firmware from now on, and the counter has moved."""


@dataclass(frozen=True)
class RolledBack:
    """The pointer starts the old firmware again."""


Event: TypeAlias = (
    Started
    | Tick
    | CheckAsked
    | Offered
    | CheckFailed
    | Located
    | Progressed
    | Downloaded
    | DownloadFailed
    | Verified
    | VerifyFailed
    | Written
    | WriteFailed
    | Switched
    | HealthReported
    | Confirmed
    | RolledBack
)


@dataclass(frozen=True)
class Save:
    """Replace the state file before the next command is touched."""

    content: bytes


@dataclass(frozen=True)
class Check:
    """Refresh TUF metadata and fetch the manifest of the current release."""


@dataclass(frozen=True)
class Locate:
    """Look up the image of this version in the refreshed metadata."""

    version: str


@dataclass(frozen=True)
class Download:
    """Bring the image to disk, going on where the last part ended; for a while, or to its end."""

    candidate: Candidate


@dataclass(frozen=True)
class Verify:
    """Compare the downloaded file with all that is known of it."""

    candidate: Candidate


@dataclass(frozen=True)
class Write:
    """Put the verified file and its manifest into the slot and read them back."""

    candidate: Candidate
    slot: Slot


@dataclass(frozen=True)
class Switch:
    """Put the slot on trial."""

    slot: Slot
    manifest_sha256: str


@dataclass(frozen=True)
class Confirm:
    """End the trial well, then raise the counter."""

    counter: int


@dataclass(frozen=True)
class RollBack:
    """End the trial badly."""

    reason: str


@dataclass(frozen=True)
class AdvanceCounter:
    """Raise the anti-rollback counter to that of firmware confirmed before."""

    counter: int


@dataclass(frozen=True)
class Discard:
    """Delete what was downloaded."""


@dataclass(frozen=True)
class Reboot:
    reason: str


@dataclass(frozen=True)
class Tell:
    """Something the platform should know. `severity` is one of info, notice, warning, critical."""

    kind: str
    severity: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The shadow's `firmware` section.

    Attributes:
        progress: in percent while it downloads.
        slots: what lies in each slot; added by whoever reads the disk.
    """

    version: str | None
    state: str
    progress: int | None = None
    error: str = ""
    slots: "SlotsReport | None" = None


@dataclass(frozen=True)
class SlotsReport:
    """The slots as they lie on disk.

    Attributes:
        running: the slot that was started, None when none was.
        confirmed: the slot that last proved itself.
        trial: the slot on trial, with `tries_left`; None when there is none.
        versions: the release whose verified manifest lies in a slot; None where there is none.
    """

    running: Slot | None
    confirmed: Slot
    trial: Slot | None
    tries_left: int
    versions: dict[Slot, str | None]


Command: TypeAlias = (
    Save
    | Check
    | Locate
    | Download
    | Verify
    | Write
    | Switch
    | Confirm
    | RollBack
    | AdvanceCounter
    | Discard
    | Reboot
    | Tell
    | Report
)
