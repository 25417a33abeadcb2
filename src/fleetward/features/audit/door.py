"""What others need to know of audit."""

from fleetward.base.config import Section
from fleetward.base.events import Severity
from fleetward.base.feature import About, EventKind, Feature, Place, Port, Role, Routes, Timer
from fleetward.base.permissions import Permission, Reach
from fleetward.features.audit import http, settings
from fleetward.features.audit.http import AuditContext
from fleetward.features.audit.service import Keeper

feature = Feature(
    name="audit",
    context=AuditContext,
    routes=(Routes(http.router, Port.API),),
    timers=(Timer("audit-checkpoint", 5.0, Role.WORKER, lambda house: house.get(Keeper).keep()),),
    events=(
        EventKind(
            "audit.tampered",
            Severity.CRITICAL,
            About.PLATFORM,
            "the audit log is not what was signed or witnessed",
        ),
        EventKind(
            "audit.witness_unavailable",
            Severity.CRITICAL,
            About.PLATFORM,
            "the witness cannot be read or written",
        ),
    ),
    settings=(Section("audit", settings.Audit, settings.check),),
    places=(Place("/audit", "audit.read"),),
    permissions=(Permission("audit.read", Reach.FLEET, "read the audit log"),),
)
