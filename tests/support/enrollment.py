"""A platform's enrollment without its processes: a CA in a folder, an app over a database."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from fleetward.base.clock import Clock
from fleetward.base.db import Database
from fleetward.base.errors import UnauthenticatedError
from fleetward.base.events import Event, list_events
from fleetward.base.web import BodyLimit, Edge, Principal, add_error_handlers
from fleetward.features.devices import service as devices
from fleetward.features.devices.model import AttestationPolicy, KeyTier, Model
from fleetward.features.enrollment.context import EnrollmentContext, TimeSigner
from fleetward.features.enrollment.http import device_router, router
from fleetward.features.pki.authority.ceremony import create_hierarchy, load_ca, load_root, load_time_signer
from fleetward.features.pki.authority.profiles import RevocationUrls
from fleetward.features.pki.service import PkiContext
from fleetward.migrations.runner import migrate
from support.database import open_database

TRUST_DOMAIN = "fleet.test"
Name = tuple[x509.ObjectIdentifier, str]


@contextmanager
def sqlite_in(folder: Path, clock: Clock) -> Iterator[Database]:
    """A migrated SQLite alone, where no test is about what differs between databases."""
    db = open_database(f"sqlite:///{folder / 'db.sqlite3'}", clock)
    migrate(db)
    yield db
    db.close()


def make_pki(folder: Path, db: Database) -> PkiContext:
    """Hold the ceremony in `folder` and return its authorities."""
    for room in ("ca", "keys", "tls", "offline"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    create_hierarchy(folder, TRUST_DOMAIN, b"correct horse battery", db.clock.now())
    urls = RevocationUrls("https://localhost/crl", "https://localhost/ocsp", "https://localhost/ca")
    return PkiContext(
        TRUST_DOMAIN, load_root(folder), load_ca(folder, "device-ca"), load_ca(folder, "server-ca"), urls
    )


def make_context(folder: Path) -> EnrollmentContext:
    key, certificate = load_time_signer(folder)
    signer = TimeSigner(key, (certificate, load_ca(folder, "server-ca").certificate))
    return EnrollmentContext("https://localhost/.well-known/est/", lambda: signer, lambda _: None)


class OneOperator:
    """Lets in who says `Bearer operator`."""

    def authorize(self, request: Request, permission: str) -> Principal:
        del permission
        if request.headers.get("authorization") != "Bearer operator":
            raise UnauthenticatedError("token: expected an operator's, found none")
        return Principal("operator:test")


def make_app(folder: Path, db: Database, pki: PkiContext) -> FastAPI:
    """Return both sides' routes in one app."""
    app = FastAPI()
    add_error_handlers(app)
    app.add_middleware(BodyLimit, default_bytes=256 * 1024)
    app.state.edge = Edge(db, OneOperator())
    app.state.pki = pki
    app.state.enrollment = make_context(folder)
    app.include_router(router, prefix="/api/v1")
    app.include_router(device_router)
    return app


@dataclass
class WithPeer:
    """ASGI middleware that plays TLS: the certificate a client authenticated with."""

    app: ASGIApp
    peer: x509.Certificate | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.peer is not None:
            scope["extensions"] = {"tls": {"client_cert_der": self.peer.public_bytes(Encoding.DER)}}
        await self.app(scope, receive, send)


@dataclass
class Keypair:
    """A device's key and the requests it signs."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def csr(
        self, *names: Name, extensions: tuple[x509.ExtensionType, ...] = ()
    ) -> x509.CertificateSigningRequest:
        builder = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def csr_for(self, device_id: str) -> x509.CertificateSigningRequest:
        return self.csr((NameOID.COMMON_NAME, device_id))


def add_model(db: Database, model_id: str = "cam", **rules: Any) -> None:
    chosen: dict[str, Any] = {
        "attestation": AttestationPolicy.NONE,
        "min_tier": KeyTier.SOFTWARE,
        "cert_lifetime": timedelta(hours=24),
    } | rules
    with db.write("operator:test") as tx:
        devices.add_model(tx, Model(model_id, **chosen))


def events_of(db: Database, kind: str) -> list[Event]:
    with db.read() as tx:
        return [event for event in list_events(tx) if event.kind == kind]
