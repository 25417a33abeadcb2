"""Forgets what can no longer matter. What happened stays in the audit log."""

from datetime import timedelta

from fleetward.base.db import Tx
from fleetward.features.access import store

KEPT = timedelta(days=1)


def forget_expired(tx: Tx) -> None:
    """Remove links, challenges, sign-ins in progress, failures and sessions that are over for a day."""
    store.links.forget_expired(tx)
    store.challenges.forget_expired(tx)
    store.device_codes.forget_expired(tx)
    store.failures.forget_older(tx, tx.now - KEPT)
    store.sessions.forget_older(tx, tx.now - KEPT)
