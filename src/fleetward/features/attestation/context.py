"""What the routes of attestation need beyond the database; in `app.state.attestation`."""

from dataclasses import dataclass, field
from typing import cast

from starlette.requests import HTTPConnection

from fleetward.base.limiting.repeats import Repeats


@dataclass(frozen=True)
class AttestationContext:
    """Wired in programs/server.

    Attributes:
        refusals: which refused evidence is worth an event; asked before a transaction begins.
    """

    refusals: Repeats = field(default_factory=Repeats)


def context_of(connection: HTTPConnection) -> AttestationContext:
    return cast("AttestationContext", connection.app.state.attestation)
