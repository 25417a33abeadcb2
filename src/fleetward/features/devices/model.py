"""What a device and a model are, and how a device's life may go. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from fleetward.base.errors import ConflictError, InvalidInputError
from fleetward.base.ids import render_duration

MIN_CERT_LIFETIME = timedelta(seconds=30)
MAX_CERT_LIFETIME = timedelta(days=90)
DEFAULT_CERT_LIFETIME = timedelta(hours=24)
DEFAULT_APPRAISAL_LIFETIME = timedelta(hours=6)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_TIME_DIGITS = 17  # in microseconds, the year 5138


class DeviceState(StrEnum):
    """Where a device is in its life; see `may_become`."""

    REGISTERED = "registered"
    ENROLLED = "enrolled"
    ACTIVE = "active"
    QUARANTINED = "quarantined"
    RETIRED = "retired"
    REVOKED = "revoked"


_NEXT: dict[DeviceState, frozenset[DeviceState]] = {
    DeviceState.REGISTERED: frozenset({DeviceState.ENROLLED, DeviceState.REVOKED, DeviceState.RETIRED}),
    DeviceState.ENROLLED: frozenset(
        {DeviceState.ACTIVE, DeviceState.QUARANTINED, DeviceState.REVOKED, DeviceState.RETIRED}
    ),
    DeviceState.ACTIVE: frozenset({DeviceState.QUARANTINED, DeviceState.REVOKED, DeviceState.RETIRED}),
    DeviceState.QUARANTINED: frozenset({DeviceState.ACTIVE, DeviceState.REVOKED, DeviceState.RETIRED}),
    DeviceState.REVOKED: frozenset({DeviceState.RETIRED}),
    DeviceState.RETIRED: frozenset(),
}

ENDED = frozenset({DeviceState.REVOKED, DeviceState.RETIRED})


class KeyTier(StrEnum):
    """Where a device's private key lives, as proven to us; `rank` orders them."""

    SOFTWARE = "software"
    PKCS11 = "pkcs11"
    TPM = "tpm"

    @property
    def rank(self) -> int:
        return ("software", "pkcs11", "tpm").index(self.value)


class AttestationPolicy(StrEnum):
    REQUIRED = "required"
    NONE = "none"


class HardwareKind(StrEnum):
    """What names a chip before it has a certificate of ours."""

    TPM_EK = "tpm-ek"
    IDEVID = "idevid"
    CSR_KEY = "csr-key"


class LifecycleError(ConflictError):
    """The device's life cannot go that way."""

    code = "lifecycle_conflict"


class KeyTierError(ConflictError):
    """The model demands a better protected key than was proven."""

    code = "key_tier_too_low"


class SortKey(StrEnum):
    """By what devices are listed; ties are broken by id."""

    ID = "id"
    MODEL = "model"
    GROUP = "group"
    STATE = "state"
    FIRMWARE = "firmware"
    CHANGED = "changed"


@dataclass(frozen=True)
class Order:
    """How devices are listed; written `changed`, or `-changed` for the last first."""

    key: SortKey = SortKey.ID
    is_descending: bool = False


@dataclass(frozen=True)
class Selection:
    """Which devices are meant; each field narrows, None leaves it open.

    Attributes:
        firmware: the version that runs; "" for devices whose firmware is not known.
        search: a part of the id, in any case.
        groups: those the caller may see or act on, None for all. An empty set selects no device.
    """

    model: str | None = None
    group: str | None = None
    state: DeviceState | None = None
    firmware: str | None = None
    search: str | None = None
    groups: frozenset[str] | None = None


@dataclass(frozen=True)
class Counts:
    """How many devices a selection has; firmware that is not known is counted as ""."""

    total: int
    by_state: dict[str, int]
    by_model: dict[str, int]
    by_firmware: dict[str, int]
    by_group: dict[str, int]


@dataclass(frozen=True)
class HardwareIdentity:
    """A chip as its maker names it.

    Attributes:
        fingerprint: SHA-256 of the SubjectPublicKeyInfo DER, lower-case hex.
    """

    kind: HardwareKind
    fingerprint: str


@dataclass(frozen=True)
class Model:
    """A product, and what its devices must fulfil."""

    id: str
    attestation: AttestationPolicy = AttestationPolicy.REQUIRED
    min_tier: KeyTier = KeyTier.SOFTWARE
    cert_lifetime: timedelta = DEFAULT_CERT_LIFETIME
    appraisal_lifetime: timedelta = DEFAULT_APPRAISAL_LIFETIME


@dataclass(frozen=True)
class Device:
    """One device, as registered."""

    id: str
    model: str
    group: str
    state: DeviceState
    tier: KeyTier | None
    hardware: HardwareIdentity | None
    firmware_version: str | None
    created_at: datetime
    state_changed_at: datetime
    state_reason: str

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Standing:
    """Of a device only what decides on its sessions."""

    id: str
    state: DeviceState
    requires_appraisal: bool


def check_model(model: Model) -> Model:
    """Return `model` when its lifetimes are within limits.

    Raises:
        InvalidInputError: a lifetime under 30 s or over 90 d, or attestation on a tier that has no TPM.
    """
    for name, value in (
        ("certificate lifetime", model.cert_lifetime),
        ("appraisal lifetime", model.appraisal_lifetime),
    ):
        if not MIN_CERT_LIFETIME <= value <= MAX_CERT_LIFETIME:
            raise InvalidInputError(
                f"model {model.id}: {name}: expected {render_duration(MIN_CERT_LIFETIME)} to "
                f"{render_duration(MAX_CERT_LIFETIME)}, found {render_duration(value)}"
            )
    return model


def may_become(state: DeviceState, to: DeviceState) -> bool:
    """Whether the lifecycle has a step from `state` to `to`."""
    return to in _NEXT[state]


def check_transition(device: Device, to: DeviceState) -> None:
    """Pass when `device` may become `to`.

    Raises:
        LifecycleError: its state has no such step.
    """
    if not may_become(device.state, to):
        allowed = ", ".join(sorted(_NEXT[device.state])) or "none: its life has ended"
        raise LifecycleError(
            f"device {device.id}: expected a step its state {device.state} allows ({allowed}), found {to}",
            state=device.state.value,
        )


def state_after_enrollment(device: Device, model: Model) -> DeviceState:
    """Return the state once a certificate was issued: a model without attestation is active at once."""
    if device.state is DeviceState.REGISTERED:
        return DeviceState.ACTIVE if model.attestation is AttestationPolicy.NONE else DeviceState.ENROLLED
    return device.state


def check_tier(device_id: str, model: Model, current: KeyTier | None, proven: KeyTier) -> None:
    """Pass when `proven` meets the model's floor and is not lower than the device's present tier.

    Raises:
        KeyTierError: it does not.
    """
    if proven.rank < model.min_tier.rank:
        raise KeyTierError(
            f"device {device_id}: model {model.id} expects a key in {model.min_tier} or better, "
            f"found one proven as {proven}",
            required=model.min_tier.value,
            proven=proven.value,
        )
    if current is not None and proven.rank < current.rank:
        raise KeyTierError(
            f"device {device_id}: expected a key in {current} as before, found one proven as {proven}",
            required=current.value,
            proven=proven.value,
        )


def parse_order(text: str) -> Order:
    """Return the order that texts such as `id` or `-changed` ask for.

    Raises:
        InvalidInputError: another word.
    """
    try:
        return Order(SortKey(text.removeprefix("-")), text.startswith("-"))
    except ValueError as error:
        raise InvalidInputError(
            f"sort: expected one of {', '.join(SortKey)}, with '-' before it for the last first, "
            f"found {text[:40]!r}"
        ) from error


def render_cursor(device: Device, order: Order) -> str:
    """Return where a page that ends with `device` stops: the id, with what it is sorted by before it."""
    key = order.key
    if key is SortKey.ID:
        return device.id
    if key is SortKey.CHANGED:
        return f"{(device.state_changed_at - _EPOCH) // _MICROSECOND}~{device.id}"
    value = {
        SortKey.MODEL: device.model,
        SortKey.GROUP: device.group,
        SortKey.STATE: device.state.value,
        SortKey.FIRMWARE: device.firmware_version or "",
    }[key]
    return f"{value}~{device.id}"


def parse_cursor(text: str, order: Order) -> tuple[str | datetime | None, str]:
    """Return what a page's last device is sorted by (None when by id) and its id.

    Raises:
        InvalidInputError: not a cursor of this order.
    """
    if order.key is SortKey.ID:
        return None, text
    value, mark, device_id = text.rpartition("~")  # no id holds a tilde
    is_time = order.key is SortKey.CHANGED
    if not mark or (is_time and not (value.isascii() and value.isdigit() and len(value) <= _MAX_TIME_DIGITS)):
        raise InvalidInputError(
            f"after: expected the next_after of a page sorted by {order.key}, found {text[:40]!r}"
        )
    return (_EPOCH + int(value) * _MICROSECOND if is_time else value), device_id
