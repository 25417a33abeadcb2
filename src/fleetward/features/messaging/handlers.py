"""What happens by itself: events of the rooms below change who may connect; messages of devices are taken in.

Every handler may run twice for the same event or message and changes nothing the second time.
"""

from collections.abc import Collection, Container, Iterable, Sequence
from typing import Any

import msgspec

from fleetward.base.db import Database
from fleetward.base.errors import InvalidInputError
from fleetward.features.messaging import service
from fleetward.features.messaging.intake.batch import Admit, DeviceMessage, Refused, Stage
from fleetward.features.messaging.intake.keep import ACTOR, TakenIn, keep
from fleetward.features.messaging.intake.limit import admit_all
from fleetward.features.messaging.intake.parse import parse
from fleetward.features.messaging.model import AdmissionRecord, CommandRecord, Shadow

# Of these the admission records must hear: each can open or close the way to a session.
ADMISSION_KINDS = frozenset(
    {
        "device.state_changed",
        "certificate.issued",
        "certificate.revoked",
        "attestation.appraised",
        "attestation.failed",
        "hold.set",
        "hold.lifted",
    }
)
CERTIFICATE_REVOKED = "certificate.revoked"
COMMAND_QUEUED = "command.queued"
SHADOW_DESIRED = "shadow.desired"
ADMISSION_PAGE = 1000


class Notice(msgspec.Struct, frozen=True):
    """An event as it arrives from the outbox; only what messaging acts on."""

    id: int
    kind: str
    device: str | None = None
    details: dict[str, Any] = {}

    @property
    def superseded(self) -> frozenset[str]:
        """The serials that a later certificate of the device has replaced: no more than that has happened."""
        is_routine = self.kind == CERTIFICATE_REVOKED and self.details.get("why") == "superseded"
        return frozenset(self.details.get("serials", ())) if is_routine else frozenset()


_decode_notice = msgspec.json.Decoder(Notice).decode


def parse_notice(content: bytes) -> Notice:
    """Return the event in a message of ours. Raises InvalidInputError when it is none."""
    try:
        return _decode_notice(content)
    except msgspec.MsgspecError as error:
        raise InvalidInputError("event: expected one of ours, found another form") from error


def admission_devices(notices: Iterable[Notice]) -> list[str]:
    """Return the devices whose admission these events may have changed."""
    return sorted({one.device for one in notices if one.kind in ADMISSION_KINDS and one.device is not None})


def admission_records(db: Database, devices: Sequence[str]) -> list[AdmissionRecord]:
    """Return the records of these devices as they are now; none for a device that is not registered."""
    with db.read(ACTOR) as tx:
        return service.admission_records(tx, devices)


def registry_version(db: Database) -> int:
    """Return the version that an admission record drawn now would have."""
    with db.read(ACTOR) as tx:
        return service.registry_version(tx)


def admission_page(db: Database, after: str) -> list[AdmissionRecord]:
    """Return the next records by device, `ADMISSION_PAGE` at most, over one snapshot."""
    with db.read(ACTOR) as tx:
        return service.list_admission_records(tx, after=after, limit=ADMISSION_PAGE)


def take_in(
    db: Database,
    stages: Sequence[Stage],
    messages: Sequence[DeviceMessage],
    told_kinds: Collection[str],
    admit: Admit = admit_all,
) -> tuple[TakenIn, tuple[Refused, ...]]:
    """Take in messages of devices: read those that `admit` lets through, pass them through `stages`, write.

    Return what came of them, with the readings to keep, and what was refused.
    """
    now = db.clock.now()
    admitted, refused = admit(messages, now)
    batch = parse(admitted, told_kinds)
    for stage in stages:
        batch = stage(batch, now)
    return keep(db, batch), (*refused, *batch.refused)


def commands_for(db: Database, devices: Collection[str]) -> list[CommandRecord]:
    """Return the open commands of devices that are there to hear them."""
    with db.read(ACTOR) as tx:
        return service.find_open_commands(tx, devices)


def desired_of(db: Database, devices: Collection[str]) -> list[Shadow]:
    """Return the shadows of devices that have not acted on what is desired of them."""
    with db.read(ACTOR) as tx:
        return service.list_waiting_shadows(tx, devices)


def due_commands(db: Database, connected: Container[str]) -> list[CommandRecord]:
    """Close commands whose time is over; return those to send again to connected devices."""
    with db.read(ACTOR) as tx:
        due = [command for command in service.due_commands(tx) if command.device in connected]
        has_expired = service.has_expired_commands(tx)
    if has_expired:
        with db.write(ACTOR) as tx:
            service.time_out_commands(tx)
    return due


def mark_sent(db: Database, commands: Sequence[CommandRecord]) -> None:
    """Note that commands were published."""
    with db.write(ACTOR) as tx:
        service.mark_sent(tx, commands)
