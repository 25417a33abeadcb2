"""What others need to know of pki."""

from fleetward.base.events import Severity
from fleetward.base.feature import About, EventKind, Feature, Forget, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.pki import http, service
from fleetward.features.pki.service import PkiContext

feature = Feature(
    name="pki",
    context=PkiContext,
    routes=(
        Routes(http.router, Port.API),
        Routes(http.api_router, Port.API),
        Routes(http.public_router, Port.PAGES),
        Routes(http.public_router, Port.DEVICES),
    ),
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
    permissions=(
        Permission("authority.read", Reach.SHARED, "see the certificate authorities"),
        Permission("certificate.read", Reach.DEVICES, "see a device's certificates"),
    ),
)
