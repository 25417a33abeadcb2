"""What the routes of enrollment need beyond the database; in `app.state.enrollment`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.requests import HTTPConnection

from fleetward.base.limiting.failures import FailureLimit
from fleetward.base.limiting.repeats import Repeats


@dataclass(frozen=True)
class TimeSigner:
    """Who states the time: a key and its certificate chain, leaf first, without the root."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]


@dataclass(frozen=True)
class EnrollmentContext:
    """Wired in programs/server.

    Attributes:
        est_url: where devices find EST, e.g. `https://fleet.example:9443/.well-known/est/`.
        time_signer: returns who states the time; its certificate renews.
        on_authorities: told all CAs of IDevIDs whenever a factory was added, for the devices' TLS listener.
        refusals: which refusals are worth an event.
        failures: how often one address may fail for one device.
        beginnings: how often one address may ask for a TPM challenge for one device.
    """

    est_url: str
    time_signer: Callable[[], TimeSigner]
    on_authorities: Callable[[list[x509.Certificate]], None]
    refusals: Repeats = field(default_factory=Repeats)
    failures: FailureLimit = field(default_factory=lambda: FailureLimit("enrollment"))
    beginnings: FailureLimit = field(default_factory=lambda: FailureLimit("enrollment", failures=30))


def context_of(connection: HTTPConnection) -> EnrollmentContext:
    return cast("EnrollmentContext", connection.app.state.enrollment)
