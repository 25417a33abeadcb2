"""What the enrollment machine remembers over a restart, and the rules of time. Pure."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec

from fleetward.base.errors import CorruptDataError

MAX_STATE_BYTES = 64 * 1024
RENEWAL_SHARE = 0.5
RENEWAL_JITTER_SHARE = 0.1
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=15)
_PAUSES_A_LIFETIME = 20
_MAX_DOUBLINGS = 20


class Phase(StrEnum):
    """How the device stands with its certificate."""

    NONE = "none"
    ENROLLING = "enrolling"
    ENROLLED = "enrolled"
    RENEWING = "renewing"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Chip:
    """What the TPM shows of itself.

    Attributes:
        ek_chain: EK certificate and its issuers, DER, leaf first.
        ak_public: TPM2B_PUBLIC of the attestation key.
    """

    ek_chain: tuple[bytes, ...]
    ak_public: bytes


@dataclass(frozen=True)
class Settings:
    """What does not change while the machine lives.

    Attributes:
        root_pem: the pinned root (`ca_file`), which signed time is verified against.
        earliest: no true time is before this, e.g. when the firmware was built.
        chip: in the `tpm` tier, which uses the TPM lane; None in the others, which use EST.
        has_idevid: the secure element holds a manufacturer's certificate to enroll with instead of a claim.
        factory_key: label of a key made in the factory, which the shipment manifest lists. It enrolls first,
            and again after an expiry; it is never deleted.
    """

    device_id: str
    root_pem: bytes
    earliest: datetime
    chip: Chip | None = None
    has_idevid: bool = False
    factory_key: str | None = None


class CertifiedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that has a certificate.

    Attributes:
        obtained_at: by this device's clock; the start of its lifetime here, whatever the server backdates.
        is_proven: a session with it was accepted.
    """

    label: str
    obtained_at: datetime
    not_after: datetime
    is_proven: bool = False


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state file.

    Attributes:
        made: how many keys were ever planned; names the next one.
        pending: label of the key that is being certified.
        retired: labels whose deletion is not confirmed.
        failures: attempts that failed in a row.
        seen_at: the latest time known to be past; a clock before it is wrong.
        used_claim: SHA-256 (hex) of the claim that was used last; its file may be deleted.
    """

    version: int = 1
    made: int = 0
    current: CertifiedKey | None = None
    previous: CertifiedKey | None = None
    pending: str | None = None
    retired: tuple[str, ...] = ()
    failures: int = 0
    retry_at: datetime | None = None
    seen_at: datetime | None = None
    used_claim: str | None = None


def parse_memory(content: bytes | None) -> Memory:
    """Return what was saved; None is a device that never started.

    Raises:
        CorruptDataError: not a state file of this or an earlier release.
    """
    if content is None:
        return Memory()
    try:
        if len(content) > MAX_STATE_BYTES:
            raise msgspec.ValidationError("too large")
        memory = msgspec.json.decode(content, type=Memory)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptDataError(
            "enrollment state: expected what this agent saved, found something else",
            hint="Remove the state file to enroll anew with a claim.",
        ) from error
    if memory.version != 1:
        raise CorruptDataError(f"enrollment state: expected version 1, found {memory.version}")
    return memory


def render_memory(memory: Memory) -> bytes:
    return msgspec.json.encode(memory)


def phase_of(memory: Memory, now: datetime) -> Phase:
    if memory.current is None:
        return Phase.NONE if memory.pending is None else Phase.ENROLLING
    if now >= memory.current.not_after:
        return Phase.EXPIRED
    return Phase.ENROLLED if memory.pending is None else Phase.RENEWING


def renewal_at(key: CertifiedKey, device_id: str) -> datetime:
    """Return when renewal is due: half of the lifetime, a tenth of it earlier or later."""
    lifetime = key.not_after - key.obtained_at
    share = RENEWAL_SHARE + RENEWAL_JITTER_SHARE * (2 * _fraction(device_id, key.label) - 1)
    return key.obtained_at + lifetime * share


def pause_after(memory: Memory, device_id: str, now: datetime) -> timedelta:
    """Return how long to wait after `memory.failures` failures in a row.

    Doubles from five seconds to a quarter of an hour, each shortened by up to half. While a certificate lives
    the pause stays under a twentieth of its lifetime, so that a short absence of the server costs no expiry.
    """
    longest = LONGEST_PAUSE
    if memory.current is not None and now < memory.current.not_after:
        lifetime = memory.current.not_after - memory.current.obtained_at
        longest = min(longest, max(lifetime / _PAUSES_A_LIFETIME, timedelta(seconds=1)))
    doublings = min(max(memory.failures - 1, 0), _MAX_DOUBLINGS)
    pause: timedelta = min(FIRST_PAUSE * 2**doublings, longest)
    return pause * (1 - _fraction(device_id, str(memory.made), str(memory.failures)) / 2)


def is_pausing(memory: Memory, now: datetime) -> bool:
    """Whether the last failure is too fresh; a pause that a clock change made absurd does not count."""
    return memory.retry_at is not None and now < memory.retry_at <= now + 4 * LONGEST_PAUSE


def is_clock_credible(memory: Memory, settings: Settings, now: datetime) -> bool:
    """Whether `now` is after everything known to be past."""
    return now >= max(settings.earliest, memory.seen_at or datetime.min.replace(tzinfo=UTC))


def live_key(memory: Memory, now: datetime) -> CertifiedKey | None:
    """Return what to authenticate with: unexpired, and one that has connected when there is a choice."""
    current, previous = memory.current, memory.previous
    if current is None or now >= current.not_after:
        return None
    if not current.is_proven and previous is not None and now < previous.not_after:
        return previous
    return current


def wants_certificate(memory: Memory, device_id: str, now: datetime) -> bool:
    if memory.current is None or memory.pending is not None:
        return True
    return now >= min(renewal_at(memory.current, device_id), memory.current.not_after)


def _fraction(*names: str) -> float:
    """Return a number in [0, 1) that is always the same for these names, and unlike that of others."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32
