"""Section `[pki]` of the platform's settings."""

import msgspec

from fleetward.base.errors import InvalidInputError

_MAX_PORT = 65_535


class Pki(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The port that serves CRL, OCSP and CA certificates without TLS; 0: none."""

    plain_port: int = 0


def check(settings: Pki) -> None:
    """Raise InvalidInputError over what is no port."""
    if not 0 <= settings.plain_port <= _MAX_PORT:
        raise InvalidInputError(
            f"pki.plain_port: expected 0 (none) to {_MAX_PORT}, found {settings.plain_port}"
        )
