"""What a permission is. Each feature's door says which it has; what each role holds: access's policies."""

from dataclasses import dataclass
from enum import StrEnum


class Reach(StrEnum):
    """What a permission is held over.

    DEVICES: group by group; a route that names no device gets the groups in which the caller holds it.
    SHARED: what all groups have in common; held by whoever holds it in any group.
    FLEET: the platform as a whole; held by whoever holds it in all groups (`*`).
    """

    DEVICES = "devices"
    SHARED = "shared"
    FLEET = "fleet"


@dataclass(frozen=True)
class Permission:
    """`<noun>.<verb>`; those that end in `.read` change nothing."""

    name: str
    reach: Reach
    about: str

    @property
    def is_read(self) -> bool:
        return self.name.endswith(".read")
