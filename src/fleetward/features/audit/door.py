"""What others need to know of audit."""

from fleetward.base.feature import Feature, Port, Role, Routes, Timer
from fleetward.base.permissions import Permission, Reach
from fleetward.features.audit import http
from fleetward.features.audit.http import AuditContext
from fleetward.features.audit.service import Keeper

feature = Feature(
    name="audit",
    context=AuditContext,
    routes=(Routes(http.router, Port.API),),
    timers=(Timer("audit-checkpoint", 5.0, Role.WORKER, lambda house: house.get(Keeper).keep()),),
    permissions=(Permission("audit.read", Reach.FLEET, "read the audit log"),),
)
