"""What others need to know of attestation."""

from fleetward.base.events import Severity
from fleetward.base.feature import About, Cards, EventKind, Feature, Forget, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.attestation import board, http, service
from fleetward.features.attestation.context import AttestationContext

feature = Feature(
    name="attestation",
    context=AttestationContext,
    routes=(Routes(http.router, Port.API), Routes(http.device_router, Port.DEVICES)),
    cards=(Cards("device.read", (board.FAILING,), board.find_cards),),
    forgets=(Forget("challenges", None, service.forget_expired),),
    events=(
        EventKind("attestation.appraised", Severity.INFO, About.DEVICE, "good, until when"),
        EventKind(
            "attestation.failed",
            Severity.CRITICAL,
            About.DEVICE,
            "a bad verdict; warning: evidence that was not appraised",
            or_severities=frozenset({Severity.WARNING}),
        ),
    ),
    permissions=(
        Permission(
            "attestation.manage", Reach.FLEET, "say what devices may measure and whose chips are trusted"
        ),
        Permission("attestation.read", Reach.SHARED, "see what devices may measure, and verdicts on them"),
    ),
)
