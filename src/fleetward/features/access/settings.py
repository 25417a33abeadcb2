"""Sections `[access]` and `[oidc]` of the platform's settings."""

import msgspec

from fleetward.base.errors import InvalidInputError
from fleetward.base.ids import parse_duration


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of operators' sessions: unused, and at all."""

    session_idle: str = "30m"
    session_absolute: str = "8h"


class OidcRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A role everybody in one of the provider's groups holds, in a group of devices or in all."""

    provider_group: str
    role: str
    group: str = "*"


class Oidc(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An OpenID provider for single sign-on.

    Attributes:
        issuer: as the provider writes it, `https://…`.
        client_secret_file: a file readable by its owner alone.
        name: what the sign-in page calls it.
        groups_claim: the claim that lists a person's groups.
        mfa_amr, mfa_acr: values of these claims that prove two factors; others are stepped up locally.
        ca_file: the root that signs the provider's certificate; empty: the system's roots.
    """

    issuer: str
    client_id: str
    client_secret_file: str
    name: str = "Single sign-on"
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    mfa_amr: tuple[str, ...] = ("mfa",)
    mfa_acr: tuple[str, ...] = ()
    ca_file: str = ""
    roles: tuple[OidcRole, ...] = ()


def check_access(settings: Access) -> None:
    """Raise InvalidInputError over a duration that is none."""
    for name in settings.__struct_fields__:
        parse_duration(getattr(settings, name), what=f"access.{name}")


def check_oidc(settings: Oidc) -> None:
    """Raise InvalidInputError over a provider that is not reached by TLS."""
    if not settings.issuer.startswith("https://"):
        raise InvalidInputError(f"oidc.issuer: expected https://…, found {settings.issuer[:100]!r}")
