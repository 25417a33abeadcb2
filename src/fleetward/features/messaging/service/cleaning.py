"""What messaging forgets, and when."""

from datetime import timedelta

from fleetward.base.db import Tx
from fleetward.features.messaging import store

# A device sends again what it has no acknowledgement for, from a spool that may be days old.
TOLD_FOR = timedelta(days=30)


def forget_old(tx: Tx) -> int:
    """Forget which log lines were told; return how many. A repeat after that is told again."""
    return store.delete_told(tx, tx.now - TOLD_FOR)
