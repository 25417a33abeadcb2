"""Wires a platform from its settings: contexts of the features, applications of the two HTTPS ports."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from fastapi import FastAPI, Request

from fleetward import __version__
from fleetward.base.clock import Clock
from fleetward.base.config import Ports, ServerConfig
from fleetward.base.db import Database
from fleetward.base.errors import UnauthenticatedError
from fleetward.base.feature import Feature, House, Port
from fleetward.base.ids import parse_duration
from fleetward.base.layout import DataFolder
from fleetward.base.web import (
    PROBLEMS,
    BodyLimit,
    Edge,
    Principal,
    SecurityHeaders,
    add_error_handlers,
    describe_problems,
)
from fleetward.features.access.context import AccessContext
from fleetward.features.access.service.authenticating import OperatorAuthenticator
from fleetward.features.access.service.identifying import Identifier
from fleetward.features.access.service.local_token import read_admin_token
from fleetward.features.attestation.context import AttestationContext
from fleetward.features.audit.http import AuditContext
from fleetward.features.audit.service import Keeper, find_last
from fleetward.features.audit.settings import Audit
from fleetward.features.enrollment.context import EnrollmentContext, TimeSigner
from fleetward.features.events.service import Kept
from fleetward.features.events.settings import Events
from fleetward.features.events.tail import Tail
from fleetward.features.media.ports import MediaBus
from fleetward.features.media.relay import MediaContext
from fleetward.features.media.settings import Media
from fleetward.features.messaging.http import MessagingContext
from fleetward.features.messaging.ports import DeadLetters
from fleetward.features.overview.context import OverviewContext
from fleetward.features.pki import http as pki_http
from fleetward.features.pki.authority.ceremony import load_ca, load_root, load_time_signer
from fleetward.features.pki.authority.profiles import RevocationUrls
from fleetward.features.pki.authority.rollover import load_earlier_cas
from fleetward.features.pki.service import PkiContext
from fleetward.features.pki.settings import Pki
from fleetward.features.updates.context import UpdatesContext, load_updates_context
from fleetward.outside.auditing.witness import FileWitness
from fleetward.outside.blobs.open import open_blobs
from fleetward.outside.nats.archive import Archive
from fleetward.outside.nats.worker import Parts
from fleetward.programs.server.access import build_access
from fleetward.programs.server.console import ConsoleRoute
from fleetward.programs.server.doors import DOORS, cards_of, checks_of, permissions_of, routes_at
from fleetward.programs.server.initialise import blobs_url, load_notary, open_database
from fleetward.programs.server.json_bodies import StrictJson
from fleetward.programs.server.premises import FolderSurveyor
from fleetward.wire.est import PATH as EST_PATH

_PREFIX = {Port.API: "/api/v1", Port.PAGES: "", Port.DEVICES: ""}
# The pages load scripts, styles and media of their own origin only.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_MAX_PLAIN_BODY_BYTES = 4 * 1024  # an OCSP request has 2 kB at most
_DEVICE_POLICY = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Addresses:
    """Where this platform is reached."""

    console: str
    devices: str
    mqtt: str
    dtls: str


@dataclass(frozen=True)
class Rooms:
    """What every process of a platform has, whatever its roles; `doors` says of which features it is made."""

    folder: DataFolder
    config: ServerConfig
    ports: Ports
    addresses: Addresses
    db: Database
    clock: Clock
    pki: PkiContext
    audit: AuditContext
    updates: UpdatesContext
    access: AccessContext
    doors: tuple[Feature, ...]

    @property
    def house(self) -> House:
        """What acts of features find in every process."""
        keeper = Keeper(self.db, self.audit.notary, self.audit.witness)
        events = self.config.get(Events)
        kept = Kept(parse_duration(events.keep, what="events.keep"), events.most)
        house = House(self.db, self.clock)
        return house.furnished(self.pki, self.audit, self.updates, self.access, keeper, kept)


def build_rooms(
    folder: DataFolder,
    config: ServerConfig,
    ports: Ports,
    clock: Clock,
    doors: tuple[Feature, ...] = DOORS,
) -> Rooms:
    """Open database, keys and blobs.

    Raises:
        KeyUnavailableError: a key is missing or unreadable.
        ConfigError: a store's URL is wrong.
    """
    name = config.public_name
    notary = load_notary(folder, config)
    addresses = Addresses(
        console=f"https://{name}:{ports.console}",
        devices=f"https://{name}:{ports.devices}",
        mqtt=f"{name}:{ports.mqtt}",
        dtls=f"{name}:{ports.dtls}",
    )
    plain_port = config.get(Pki).plain_port
    plain = _revocation_at(f"http://{name}:{plain_port}".removesuffix(":80")) if plain_port else None
    path = folder.path
    pki = PkiContext(
        config.trust_domain,
        load_root(path),
        load_ca(path, "device-ca"),
        load_ca(path, "server-ca"),
        replace(_revocation_at(addresses.devices), plain=plain),
        load_earlier_cas(path, "device-ca", clock.now()),
    )
    return Rooms(
        folder=folder,
        config=config,
        ports=ports,
        addresses=addresses,
        db=open_database(folder, config, clock, notary),
        clock=clock,
        pki=pki,
        audit=AuditContext(notary, _witness(config)),
        updates=load_updates_context(path, open_blobs(blobs_url(folder, config))),
        access=build_access(folder, config, addresses.console, clock, permissions_of(doors)),
        doors=doors,
    )


def parts_of(doors: Iterable[Feature]) -> Parts:
    """Return what the doors bring into the worker that takes in what devices send."""
    doors = tuple(doors)
    return Parts(
        hears=tuple(one for door in doors for one in door.hears),
        stages=tuple(one for door in doors for one in door.stages),
        told_kinds=frozenset(one.name for door in doors for one in door.events if one.may_device_say),
    )


def build_console_app(
    rooms: Rooms,
    messaging: MessagingContext,
    media: MediaContext,
    on_authorities: Callable[[list[x509.Certificate]], None],
) -> FastAPI:
    """Return the operators' application: the API under /api/v1, and what relying parties ask.

    Args:
        on_authorities: told the CAs of all IDevIDs when a factory was added.
    """
    overview = OverviewContext(
        FolderSurveyor(rooms.folder, rooms.config, partial(_find_backup, rooms.db)),
        cards_of(rooms.doors),
        checks_of(rooms.doors),
    )
    house = rooms.house.furnished(
        messaging, media, _enrollment(rooms, on_authorities), overview, Tail(rooms.db)
    )
    identifier = Identifier(rooms.db, rooms.access, read_admin_token(rooms.folder.admin_token))
    edge = Edge(rooms.db, OperatorAuthenticator(rooms.db, identifier, rooms.access.decider.decide))
    app = _new_app("Fleetward", rooms, house, edge, openapi_url="/api/v1/openapi.json")
    _include_routes(app, rooms, Port.API, responses=PROBLEMS)
    describe_problems(app)
    _include_routes(app, rooms, Port.PAGES)
    app.router.routes.append(ConsoleRoute())
    _add_limits(app, rooms, {Port.API, Port.PAGES}, _PAGE_POLICY)
    return app


def build_devices_app(rooms: Rooms, media: MediaContext) -> FastAPI:
    """Return the devices' application: nobody signs in, each route asks for a certificate or a claim."""
    house = rooms.house.furnished(media, _enrollment(rooms, lambda _: None), AttestationContext())
    app = _new_app("Fleetward devices", rooms, house, Edge(rooms.db, _NobodySignsIn()), openapi_url=None)
    _include_routes(app, rooms, Port.DEVICES)
    _add_limits(app, rooms, {Port.DEVICES}, _DEVICE_POLICY)
    return app


def build_plain_app(rooms: Rooms) -> FastAPI:
    """Return what is served without TLS: what our CAs signed for everybody, and nothing else."""
    app = _new_app(
        "Fleetward revocation", rooms, rooms.house, Edge(rooms.db, _NobodySignsIn()), openapi_url=None
    )
    app.include_router(pki_http.public_router)
    app.add_middleware(BodyLimit, default_bytes=_MAX_PLAIN_BODY_BYTES)
    return app


def messaging_context(archive: Archive, dead_letters: DeadLetters) -> MessagingContext:
    """Return what messaging's routes read from NATS."""
    return MessagingContext(archive, archive, archive, dead_letters)


def media_context(rooms: Rooms, bus: MediaBus) -> MediaContext:
    """Return what the relay needs; views may be opened by our own pages, under any of our names."""
    longest = parse_duration(rooms.config.get(Media).max_view, what="media.max_view")
    return MediaContext(rooms.db, bus, rooms.access.console, rooms.access.origins, longest)


def _revocation_at(base: str) -> RevocationUrls:
    return RevocationUrls(
        crl=base + pki_http.CRL_PATH,
        ocsp=base + pki_http.OCSP_PATH,
        issuer=f"{base}{pki_http.CA_PATH}/device-ca.crt",
    )


def _find_backup(db: Database) -> datetime | None:
    with db.read() as tx:
        return find_last(tx, "backup.taken")


def _new_app(title: str, rooms: Rooms, house: House, edge: Edge, *, openapi_url: str | None) -> FastAPI:
    app = FastAPI(
        title=title, version=__version__, docs_url=None, redoc_url=None, openapi_url=openapi_url,
        redirect_slashes=False,  # such a redirect leads to whatever host the request names
    )  # fmt: skip
    add_error_handlers(app)
    app.state.edge = edge
    app.state.house = house
    for door in rooms.doors:
        if door.context is not None and door.context in house.things:
            setattr(app.state, door.name, house.things[door.context])
    return app


def _include_routes(app: FastAPI, rooms: Rooms, port: Port, **more: Any) -> None:
    for routes in routes_at(port, rooms.doors):
        app.include_router(routes.router, prefix=_PREFIX[port], **more)


def _add_limits(app: FastAPI, rooms: Rooms, ports: Collection[Port], policy: str) -> None:
    limits = {
        path: most
        for port in ports
        for routes in routes_at(port, rooms.doors)
        for path, most in routes.body_limits.items()
    }
    if Port.API in ports:  # devices' routes read their bodies themselves, and tell what they refuse
        app.add_middleware(StrictJson)
    app.add_middleware(BodyLimit, limits=limits)
    app.add_middleware(SecurityHeaders, policy=policy)


def _enrollment(rooms: Rooms, on_authorities: Callable[[list[x509.Certificate]], None]) -> EnrollmentContext:
    def load_signer() -> TimeSigner:
        """Read anew at each statement: the certificate renews itself."""
        key, certificate = load_time_signer(rooms.folder.path)
        return TimeSigner(key, (certificate, rooms.pki.server_ca.certificate, *rooms.pki.server_ca.chain))

    return EnrollmentContext(
        est_url=f"{rooms.addresses.devices}{EST_PATH}", time_signer=load_signer, on_authorities=on_authorities
    )


def _witness(config: ServerConfig) -> FileWitness | None:
    witness = config.get(Audit).witness
    return FileWitness(Path(witness)) if witness else None


class _NobodySignsIn:
    """The devices' port has no operator routes; one that strays there refuses everybody."""

    def authorize(self, request: Request, permission: str) -> Principal:
        del request
        raise UnauthenticatedError(f"{permission}: expected the operators' port, found the devices' one")
