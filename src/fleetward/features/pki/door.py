"""What others need to know of pki."""

from fleetward.base.config import Section
from fleetward.base.events import Severity
from fleetward.base.feature import About, Cards, Checks, EventKind, Feature, Forget, Place, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.pki import board, http, service, settings
from fleetward.features.pki.service import PkiContext

feature = Feature(
    name="pki",
    context=PkiContext,
    settings=(Section("pki", settings.Pki, settings.check),),
    routes=(
        Routes(http.router, Port.API),
        Routes(http.api_router, Port.API),
        Routes(http.public_router, Port.PAGES),
        Routes(http.public_router, Port.DEVICES),
    ),
    cards=(Cards("authority.read", (board.AUTHORITIES_EXPIRING,), board.find_cards),),
    checks=(Checks((board.AUTHORITY_EXPIRY,), board.find_checks),),
    forgets=(Forget("certificates", service.KEPT_AFTER_EXPIRY, service.forget_expired),),
    events=(
        EventKind("authority.rotated", Severity.WARNING, About.PLATFORM, "an issuing CA got a new key"),
        EventKind("certificate.issued", Severity.INFO, About.DEVICE, "any certificate, renewals included"),
        EventKind(
            "certificate.revoked",
            Severity.WARNING,
            About.DEVICE,
            "revoked; info where a renewal superseded it",
            or_severities=frozenset({Severity.INFO}),
        ),
    ),
    places=(Place("/devices/$id?part=certificates", "certificate.read"),),
    permissions=(
        Permission("authority.read", Reach.SHARED, "see the certificate authorities"),
        Permission("certificate.read", Reach.DEVICES, "see a device's certificates"),
    ),
)
