"""What access asks of others: the OpenID provider, and which group a device is in."""

from dataclasses import dataclass, field
from typing import Protocol

from fleetward.base.db import Tx
from fleetward.base.errors import NotFoundError, UnauthenticatedError


@dataclass(frozen=True)
class Login:
    """What must come back from one visit to the provider."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str


@dataclass(frozen=True)
class Person:
    """Whom the provider vouches for: verified claims of an ID token."""

    issuer: str
    subject: str
    name: str
    display_name: str
    groups: frozenset[str]
    amr: frozenset[str]
    acr: str


class ProviderRefusedError(UnauthenticatedError):
    """The provider, or its answer, does not hold."""

    code = "sign_in_refused"


class OidcClient(Protocol):
    def authorization_url(self, login: Login) -> str:
        """Return where to send the browser (authorization code flow with PKCE).

        Raises:
            UnavailableError: the provider does not answer.
        """
        ...

    def redeem(self, login: Login, code: str) -> Person:
        """Exchange a code and verify the ID token.

        Raises:
            ProviderRefusedError: refused, or the token does not verify.
            UnavailableError: the provider does not answer.
        """
        ...


class DeviceGroups(Protocol):
    def find_group(self, tx: Tx, device_id: str) -> str | None:
        """Return the group of a device, None when there is no such device."""
        ...

    def not_found(self, device_id: str) -> NotFoundError:
        """Return the error of a device that does not exist, word for word."""
        ...
