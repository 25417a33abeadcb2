"""Of what failed sign-ins are counted, per account and per address, and how long they hold back."""

import hashlib
import ipaddress
from datetime import timedelta

from fleetward.base.limiting.backoff import Limit

_IPV6_NETWORK_BITS = 64


# With 15 minutes between tries an account sees 96 guesses a day; SP 800-63B-4 section 3.2.2 allows 100.
ACCOUNT = Limit(free=4, longest=timedelta(minutes=15), forgotten_after=timedelta(hours=24))
# One address may be a whole office.
ADDRESS = Limit(free=30, longest=timedelta(minutes=15), forgotten_after=timedelta(hours=1))


def account_key(name: str) -> str:
    """Return the key of an account, there or not; hashed, since people type passwords into name fields."""
    return f"account:{hashlib.sha256(name.lower().encode()).hexdigest()}"


def address_key(address: str) -> str:
    """Return the key of whoever asks from an address."""
    return f"address:{network_of(address)}"


def network_of(address: str) -> str:
    """Return what one subscriber holds whole: the address, or the /64 of IPv6; of what is neither, a hash."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return hashlib.sha256(address.encode()).hexdigest()
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped  # how a listener on `::` sees IPv4
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False))
    return str(parsed)
