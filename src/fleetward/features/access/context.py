"""What every use case of access needs, wired once from settings."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from fleetward.base.limiting.slow_work import SlowWork
from fleetward.features.access.model.passwords import Passwords
from fleetward.features.access.model.roles import Role
from fleetward.features.access.model.sealing import Sealer
from fleetward.features.access.ports import OidcClient
from fleetward.features.access.service.authorize import Decider


def new_password_checks() -> SlowWork:
    """Return where passwords are checked: four at once take 256 MiB; one address holds a fourth of it."""
    return SlowWork("password checks", threads=4, waiting=12, each=4)


@dataclass(frozen=True)
class SingleSignOn:
    """An OpenID provider and what it may say.

    Attributes:
        roles: the provider's group → (role, group of devices) given by it.
        mfa_amr, mfa_acr: values that prove the provider asked for two factors.
    """

    client: OidcClient
    name: str
    roles: Mapping[str, tuple[tuple[Role, str], ...]]
    mfa_amr: frozenset[str]
    mfa_acr: frozenset[str]


@dataclass(frozen=True)
class AccessContext:
    """Rules and keys of access.

    Attributes:
        console: the console's URL, without a slash at the end.
        origins: every origin our own pages may have.
        idle, absolute: how long a session lives unused, and at all.
        password_checks: runs what checks or hashes a password; nothing else does.
    """

    console: str
    rp_id: str
    origins: frozenset[str]
    idle: timedelta
    absolute: timedelta
    sealer: Sealer
    passwords: Passwords
    password_checks: SlowWork
    common_passwords: frozenset[str] = field(repr=False)
    decider: Decider
    sso: SingleSignOn | None = None

    @property
    def can_use_passkeys(self) -> bool:
        """Whether browsers offer passkeys here: WebAuthn asks for a name, not an address."""
        try:
            ipaddress.ip_address(self.rp_id)
        except ValueError:
            return True
        return False


@dataclass(frozen=True)
class Client:
    """Where a sign-in comes from."""

    address: str
    user_agent: str
