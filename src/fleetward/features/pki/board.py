"""What pki shows of its certificate authorities: a card of the front page, a point of the checklist."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from fleetward.base.board import Card, Item, count_of
from fleetward.base.checklist import Check, CheckState
from fleetward.base.clock import say_time
from fleetward.base.db import Tx
from fleetward.base.events import Severity
from fleetward.base.feature import Groups, House
from fleetward.features.pki.service import PkiContext

AUTHORITIES_EXPIRING = "authorities_expiring"
AUTHORITY_EXPIRY = "authority_expiry"
_WARNING = timedelta(days=60)


def find_cards(house: House, tx: Tx, _groups: Groups) -> list[Card]:
    """Return the CA certificates that end within 60 days."""
    ending = {name: at for name, at in house.get(PkiContext).ends.items() if at - tx.now < _WARNING}
    return [
        Card(
            AUTHORITIES_EXPIRING,
            Severity.CRITICAL,
            count_of(len(ending), "certificate authority ends soon", "certificate authorities end soon"),
            len(ending),
            tuple(
                Item(f"{name} ends at {say_time(at)}", href="/settings", at=at) for name, at in ending.items()
            ),
            "fleetward checklist",
        )
    ]


def find_checks(house: House, tx: Tx) -> list[Check]:
    """Return when the first certificate authority ends."""
    return [check_authorities(house.get(PkiContext).ends, tx.now)]


def check_authorities(ends: Mapping[str, datetime], now: datetime) -> Check:
    """Return whether the certificate authorities are good for long enough; `ends` is never empty."""
    name, ends_at = min(ends.items(), key=lambda item: item[1])
    title = "The certificate authorities are good for long enough"
    found = f"the {name} certificate ends on {ends_at:%Y-%m-%d}"
    left = ends_at - now
    if left >= _WARNING:
        return Check(AUTHORITY_EXPIRY, title, CheckState.OK, found)
    state = CheckState.FAIL if left <= timedelta() else CheckState.WARN
    fix = "Sign a successor with the root key and roll over to it."
    return Check(AUTHORITY_EXPIRY, title, state, found, fix)
