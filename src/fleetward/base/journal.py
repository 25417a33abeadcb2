"""The record of what changed, and by whom: every feature writes it, one keeps it (the audit log)."""

from typing import Any

from fleetward.base.db import Tx


def record(tx: Tx, action: str, subject: str, **details: Any) -> int:
    """Record one state change in its own transaction and return its sequence number.

    Args:
        action: `<noun>.<past participle>`, e.g. `device.revoked`.
        subject: what changed, e.g. `device:cam-1`.
        details: JSON values; never a secret.

    Raises:
        RuntimeError: the transaction only reads, or the database was opened without a journal; no change
            of state goes unrecorded.
    """
    if tx.journal is None:
        raise RuntimeError("transaction: expected one that writes, with a journal, found none to record in")
    return tx.journal(tx, action, subject, **details)
