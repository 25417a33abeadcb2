"""What the device shows of its chip: the boot stage's log, and answers to the enrollment lane's challenge."""

from pathlib import Path

from fleetward.base.errors import FleetwardError, InvalidInputError
from fleetward.features.attestation.device import make_evidence
from fleetward.features.attestation.ports import AttestationDevice
from fleetward.features.enrollment import device as enrollment
from fleetward.wire.event_log import MAX_LOG_BYTES, LogEntry, parse_event_log


def prove(
    chip: AttestationDevice, event_log: Path, command: enrollment.ProveChip
) -> enrollment.ChipProved | enrollment.ChipFailed:
    """Answer the enrollment lane's challenge. It blocks: for a worker."""
    try:
        secret = chip.activate_credential(command.credential_blob, command.encrypted_secret)
        info, signature = chip.certify_key(command.label, command.nonce)
        evidence = None
        if command.with_evidence:
            evidence = make_evidence(chip, command.nonce, read_event_log(event_log))
    except FleetwardError as error:
        return enrollment.ChipFailed(str(error))
    return enrollment.ChipProved(secret, info, signature, evidence)


def read_event_log(path: Path) -> tuple[LogEntry, ...]:
    """Return what the boot stage measured; nothing when the agent was started without one.

    Raises:
        InvalidInputError: the file is damaged; a quote could not be explained by it.
    """
    try:
        with path.open("rb") as file:
            return parse_event_log(file.read(MAX_LOG_BYTES + 1))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InvalidInputError(f"{path}: expected the boot stage's log, found it unreadable") from error
