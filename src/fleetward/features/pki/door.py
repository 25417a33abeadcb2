"""What others need to know of pki."""

from fleetward.base.feature import Feature, Forget, Port, Routes
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
    permissions=(
        Permission("authority.read", Reach.SHARED, "see the certificate authorities"),
        Permission("certificate.read", Reach.DEVICES, "see a device's certificates"),
    ),
)
