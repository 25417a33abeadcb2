"""Section `[audit]` of the platform's settings."""

from pathlib import Path

import msgspec

from fleetward.base.errors import InvalidInputError


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The audit log.

    Attributes:
        witness: file that each checkpoint is appended to as well, on another disk; empty keeps none.
    """

    witness: str = ""


def check(settings: Audit) -> None:
    """Raise InvalidInputError over a path that depends on where the program was started."""
    if settings.witness and not Path(settings.witness).is_absolute():
        raise InvalidInputError(f"audit.witness: expected an absolute path, found {settings.witness!r}")
