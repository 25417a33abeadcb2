"""When each grant was last used, to the minute."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from fleetward.base.db import Tx
from fleetward.features.access.model.identity import Grant
from fleetward.features.access.store.grants import grants

INTERVAL = timedelta(minutes=1)


def is_due(grant: Grant, now: datetime) -> bool:
    """Whether a use now is worth a row: a grant's use is recorded once a minute."""
    return grant.last_used_at is None or now - grant.last_used_at >= INTERVAL


def mark_used(tx: Tx, used: Iterable[Grant]) -> None:
    tx.conn.execute(
        grants.update().where(grants.c.id.in_([one.id for one in used])).values(last_used_at=tx.now)
    )
