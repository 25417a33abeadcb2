"""How commands move on. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from fleetward.wire.command import CommandResult


class CommandState(StrEnum):
    """How far a command is; see `may_become`."""

    QUEUED = "queued"
    SENT = "sent"
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


_NEXT: dict[CommandState, frozenset[CommandState]] = {
    CommandState.QUEUED: frozenset(
        {CommandState.SENT, CommandState.DONE, CommandState.FAILED, CommandState.TIMED_OUT}
    ),
    CommandState.SENT: frozenset({CommandState.DONE, CommandState.FAILED, CommandState.TIMED_OUT}),
    CommandState.DONE: frozenset(),
    CommandState.FAILED: frozenset(),
    CommandState.TIMED_OUT: frozenset(),
}
OPEN_STATES = (CommandState.QUEUED, CommandState.SENT)
_FIRST_RESEND = timedelta(seconds=1)
_LONGEST_RESEND = timedelta(seconds=30)


@dataclass(frozen=True)
class CommandRecord:
    """One command and what became of it.

    Attributes:
        result: what the device answered; None before, and when it timed out.
    """

    id: int
    device: str
    name: str
    args: dict[str, Any]
    state: CommandState
    actor: str
    created_at: datetime
    expires_at: datetime
    attempts: int
    finished_at: datetime | None
    result: CommandResult | None


def may_become(state: CommandState, to: CommandState) -> bool:
    """Whether a command has a step from `state` to `to`; a result that comes too late changes nothing."""
    return to in _NEXT[state]


def next_send_at(attempts: int, now: datetime) -> datetime:
    """Return when to send a command again that stays without result: after 1, 2, 4, … up to 30 seconds."""
    pause: timedelta = min(_FIRST_RESEND * (1 << min(attempts, 10)), _LONGEST_RESEND)
    return now + pause
