"""An entry, the bytes of it that are hashed, and what reading a stored one must find. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fleetward.base.errors import CorruptDataError

HASH_BYTES = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AuditTamperedError(CorruptDataError):
    """The log is not what was signed; details name the entry or the checkpoint."""

    code = "audit_tampered"


@dataclass(frozen=True)
class Entry:
    """One state change. `sequence` counts from 0 without gaps."""

    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any] = field(default_factory=dict)


def render_entry(entry: Entry) -> bytes:
    """Return the bytes that are hashed: JSON, sorted keys, no white space, time in microseconds."""
    return json.dumps(
        {
            "action": entry.action,
            "actor": entry.actor,
            "at_us": to_micros(entry.at),
            "details": entry.details,
            "sequence": entry.sequence,
            "subject": entry.subject,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    ).encode()


def render_details(details: dict[str, Any]) -> str:
    """Return details as they are stored: one text for one value, so that any changed byte shows."""
    return json.dumps(details, sort_keys=True, separators=(",", ":"))


def read_entry(row: Sequence[Any]) -> tuple[Entry, bytes]:
    """Return the entry of a stored row and its stored leaf hash.

    Args:
        row: sequence, time in microseconds, actor, action, subject, details as stored, leaf hash.

    Raises:
        AuditTamperedError: no entry was ever written so.
    """
    sequence, at_us, actor, action, subject, details, leaf = row
    altered = AuditTamperedError(
        f"audit entry {sequence}: expected the content that was hashed, found it altered", entry=sequence
    )
    try:
        parsed = json.loads(details)
        entry = Entry(sequence, from_micros(at_us), actor, action, subject, parsed)
        stored_leaf = bytes(leaf)
    except (TypeError, ValueError, OverflowError) as error:
        raise altered from error
    is_ours = isinstance(parsed, dict) and render_details(parsed) == details
    if not is_ours or not all(isinstance(text, str) for text in (actor, action, subject)):
        raise altered
    return entry, stored_leaf


def to_micros(at: datetime) -> int:
    """Return microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Return the UTC time. Raises OverflowError beyond the year 9999."""
    return _EPOCH + timedelta(microseconds=micros)
