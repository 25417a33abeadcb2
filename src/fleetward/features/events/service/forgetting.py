"""What the feed forgets: events older than is kept, and the oldest where there are too many.

Never one that no publisher has carried to JetStream, for nobody has heard of it; and never the newest, for
its id tells followers and admission records how far the feed has come.
"""

from dataclasses import dataclass
from datetime import timedelta

from fleetward.base.db import Database, Tx
from fleetward.features.events import store

ACTOR = "system:events"
# Rows a transaction deletes: it holds up writers no longer than this.
PAGE = 1000
# Longer than any message waits in JetStream to be heard again.
HEARD_KEPT = timedelta(days=100)


@dataclass(frozen=True)
class Kept:
    """How long, and how many, events are kept."""

    age: timedelta
    rows: int


def forget_old(db: Database, kept: Kept) -> int:
    """Delete what is over, a page in each transaction. Returns how many events went."""
    gone = 0
    while True:
        with db.write(ACTOR, is_told=False) as tx:
            deleted = store.delete_oldest(tx, before=tx.now - kept.age, most_kept=kept.rows, limit=PAGE)
        gone += deleted
        if deleted < PAGE:
            return gone


def forget_heard(tx: Tx) -> None:
    """Forget which events were handled, where none can come again."""
    store.forget_heard(tx, tx.now - HEARD_KEPT)
