"""What others need to know of attestation."""

from fleetward.base.feature import Feature, Forget, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.attestation import http, service

feature = Feature(
    name="attestation",
    routes=(Routes(http.router, Port.API), Routes(http.device_router, Port.DEVICES)),
    forgets=(Forget("challenges", None, service.forget_expired),),
    permissions=(
        Permission(
            "attestation.manage", Reach.FLEET, "say what devices may measure and whose chips are trusted"
        ),
        Permission("attestation.read", Reach.SHARED, "see what devices may measure, and verdicts on them"),
    ),
)
