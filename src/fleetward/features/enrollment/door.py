"""What others need to know of enrollment."""

from fleetward.base.events import Severity
from fleetward.base.feature import About, EventKind, Feature, Forget, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.enrollment import coap, device_http, http, service
from fleetward.features.enrollment.context import EnrollmentContext
from fleetward.features.enrollment.model import KEPT_CLAIMS
from fleetward.wire.shipment import MAX_MANIFEST_BYTES

feature = Feature(
    name="enrollment",
    context=EnrollmentContext,
    routes=(
        Routes(http.router, Port.API, body_limits={"/api/v1/devices/import": MAX_MANIFEST_BYTES}),
        Routes(device_http.device_router, Port.DEVICES),
    ),
    forgets=(Forget("claims", KEPT_CLAIMS, service.forget_expired),),
    coap=coap.RESOURCES,
    events=(
        EventKind(
            "claim.created", Severity.INFO, About.DEVICE, "a claim was made; the claim itself is nowhere"
        ),
        EventKind(
            "enrollment.completed",
            Severity.NOTICE,
            About.DEVICE,
            "a device got a certificate outside of renewal; by what, for a key where",
        ),
        EventKind(
            "enrollment.refused", Severity.WARNING, About.DEVICE, "no certificate: to whom, from where, why"
        ),
    ),
    permissions=(
        Permission("device.add", Reach.DEVICES, "register a device"),
        Permission("device.claim", Reach.DEVICES, "make a claim, by which a device enrolls"),
        Permission("device.import", Reach.DEVICES, "register the devices of a shipment"),
        Permission("factory.read", Reach.SHARED, "see trusted factories"),
        Permission("factory.trust", Reach.FLEET, "trust a factory's shipments"),
    ),
)
