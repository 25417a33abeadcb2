"""What features say on the deployment checklist. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class CheckState(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One point of the checklist: what was found, and what mends it ("" when nothing is to be done)."""

    id: str
    title: str
    state: CheckState
    found: str
    fix: str = ""
    command: str = ""


_URGENCY = {CheckState.FAIL: 0, CheckState.WARN: 1, CheckState.OK: 2}


def arrange_checks(checks: Iterable[Check]) -> list[Check]:
    """Return the list in the order to work through it: what fails first, else as they came."""
    return sorted(checks, key=lambda check: _URGENCY[check.state])
