"""How long sign-in is held back after failures: exponential, per account and per address."""

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

_IPV6_NETWORK_BITS = 64


@dataclass(frozen=True)
class Limit:
    """`free` failures cost nothing; each further one doubles the wait from 2 s up to `longest`."""

    free: int
    longest: timedelta
    forgotten_after: timedelta

    def wait_after(self, failures: int) -> timedelta:
        """Return how long nobody may try after this many failures in a row."""
        over = failures - self.free
        if over <= 0:
            return timedelta(0)
        return min(self.longest, timedelta(seconds=2 ** min(over, 30)))


# With 15 minutes between tries an account sees 96 guesses a day; SP 800-63B-4 section 3.2.2 allows 100.
ACCOUNT = Limit(free=4, longest=timedelta(minutes=15), forgotten_after=timedelta(hours=24))
# One address may be a whole office.
ADDRESS = Limit(free=30, longest=timedelta(minutes=15), forgotten_after=timedelta(hours=1))


@dataclass(frozen=True)
class Failures:
    """What is remembered of one account or address."""

    count: int
    last_failed_at: datetime
    blocked_until: datetime


def count_failure(before: Failures, limit: Limit, now: datetime) -> Failures:
    """Return what is remembered after one more failure at `now`."""
    is_fresh = now - before.last_failed_at < limit.forgotten_after
    count = (before.count if is_fresh else 0) + 1
    return Failures(count, now, now + limit.wait_after(count))


def account_key(name: str) -> str:
    """Return the key of an account, there or not; hashed, since people type passwords into name fields."""
    return f"account:{hashlib.sha256(name.lower().encode()).hexdigest()}"


def address_key(address: str) -> str:
    """Return the key of an address; IPv6 by its /64, which one subscriber holds whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"address:{hashlib.sha256(address.encode()).hexdigest()}"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped  # how a listener on `::` sees IPv4
    if isinstance(parsed, ipaddress.IPv6Address):
        return f"address:{ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False)}"
    return f"address:{parsed}"
