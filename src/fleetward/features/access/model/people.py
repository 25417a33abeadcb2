"""Who administers a platform, and what is to be said of it on the deployment checklist. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleetward.base.checklist import Check, CheckState

MIN_WAYS_IN = 2
_MIN_ADMINISTRATORS = 2
CHECK_IDS = ("administrators", "passkeys", "spare_factor")


@dataclass(frozen=True)
class Person:
    """An operator who may sign in, and what with; `has_totp` is a password together with its code."""

    name: str
    is_administrator: bool
    passkeys: int
    has_totp: bool
    recovery_codes_left: int

    @property
    def ways_in(self) -> int:
        """How many things they can each sign in with: passkeys, and password with code."""
        return self.passkeys + self.has_totp


def check_people(people: Sequence[Person]) -> list[Check]:
    """Return the points about administrators, passkeys and spare ways in."""
    administrators = [one for one in people if one.is_administrator]
    bare = [one.name for one in people if one.ways_in < MIN_WAYS_IN]
    without_passkey = [one.name for one in people if not one.passkeys]
    few = len(administrators) < _MIN_ADMINISTRATORS
    return [
        Check(
            "administrators", "Two administrators exist", CheckState.WARN if few else CheckState.OK,
            f"{len(administrators)} of {len(people)} operators",
            "Invite another: nobody can approve what only one person may." if few else "",
            "fleetward operator invite NAME --role administrator" if few else "",
        ),
        Check(
            "passkeys", "Everybody signs in with a passkey", _warn_if(without_passkey),
            f"without: {', '.join(without_passkey)}" if without_passkey else "all do",
            "Have them register one: a password with a code can be phished." if without_passkey else "",
        ),
        Check(
            "spare_factor", "Everybody has a second way in", _warn_if(bare),
            f"with one only: {', '.join(bare)}" if bare else "all have",
            "Have them register a second passkey, kept elsewhere." if bare else "",
        ),
    ]  # fmt: skip


def _warn_if(names: Sequence[str]) -> CheckState:
    return CheckState.WARN if names else CheckState.OK
